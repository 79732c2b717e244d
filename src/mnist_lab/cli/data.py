"""``data``: the splits of a data set."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from mnist_lab.cli.options import add, sweep_options
from mnist_lab.cli.output import JSON_OPTION, print_json, print_table

MOST_COUNTED = 12  # classes whose counts fit a line


def add_commands(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    add(app, "data", data_command)


@sweep_options("image_size", "most_duplicates")
def data_command(
    dataset: Annotated[
        str, typer.Argument(help="mnist, fashion_mnist, cifar10, cifar100, digits, or a path.")
    ] = "mnist",
    as_json: bool = JSON_OPTION,
    **typed: Any,
) -> None:
    """Say in a sentence how a data set is read; show its parts.

    A path is a folder with a folder of pictures for each class (or a zip of it, or pictures beside a
    metadata.csv), an .npz or .h5 with x_train and y_train, a .mat, a CSV of label and pixels, parquet
    files of the Hugging Face hub, or IDX files. Test images stay sealed; where there are none, a sixth
    of each class is sealed.

    Example: mnist-lab data digits
    """
    import numpy as np

    from mnist_lab.api.watch import count_decoded
    from mnist_lab.data import load_dataset
    from mnist_lab.settings import Settings

    with count_decoded() as progress:
        loaded = load_dataset(
            dataset,
            **typed,
            data_folder=Settings().data_folder,
            progress=progress,
        )
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
        print_json(
            {
                "name": loaded.name,
                "digest": loaded.digest,
                **asdict(loaded.form),
                **asdict(loaded.facts),
                "splits": rows,
            }
        )
        return
    typer.echo(f"{loaded.facts.sentence}\n")
    columns = (
        ("split", lambda row: row["split"]),
        ("images", lambda row: f"{row['images']:,}"),
        ("sha256", lambda row: row["sha256"][:16]),
        ("images of each class", lambda row: _counts(row["classes"])),
    )
    print_table(rows, columns, title=f"{loaded.name} (test images sealed)")


def _counts(counts: list[int]) -> str:
    if len(counts) <= MOST_COUNTED:
        return " ".join(map(str, counts))
    return f"{min(counts)} to {max(counts)}"
