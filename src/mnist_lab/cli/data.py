"""``data``: the splits of a data set."""

from __future__ import annotations

from typing import Annotated

import typer

from mnist_lab.cli.options import add
from mnist_lab.cli.output import JSON_OPTION, print_json, print_table


def add_commands(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    add(app, "data", data_command)


def data_command(
    dataset: Annotated[
        str, typer.Argument(help="mnist, fashion_mnist, an .npz, or a folder of IDX files.")
    ] = "mnist",
    as_json: bool = JSON_OPTION,
) -> None:
    """Check a data set and show its splits.

    Their sizes, class counts and digests. A data set is 28x28 grey images (uint8) in 10 classes: an
    .npz with x_train y_train x_test y_test, or a folder of IDX files, gzipped or not. The last sixth
    of the training images validates.

    Example: mnist-lab data mnist
    """
    import numpy as np

    from mnist_lab.data import load_dataset
    from mnist_lab.settings import Settings

    loaded = load_dataset(dataset, data_folder=Settings().data_folder)
    rows = [
        {
            "split": name,
            "images": len(split),
            "classes": np.bincount(split.labels, minlength=loaded.classes).tolist(),
            "sha256": split.digest,
        }
        for name, split in (("train", loaded.train), ("validation", loaded.validation))
    ]
    if as_json:
        print_json({"name": loaded.name, "digest": loaded.digest, "splits": rows})
        return
    columns = (
        ("split", lambda row: row["split"]),
        ("images", lambda row: f"{row['images']:,}"),
        ("sha256", lambda row: row["sha256"][:16]),
        ("images of each class, 0 to 9", lambda row: " ".join(map(str, row["classes"]))),
    )
    print_table(rows, columns, title=f"{loaded.name} (test images sealed)")
