"""A data set laid out for many processes: read and checked by one, mapped into memory by the others.

However many workers there are, the machine holds their pixels once; and all of them have the very data
that were checked, whatever becomes of the file they came from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mnist_lab.data.dataset import Dataset, DatasetFacts, ImageForm, Split

PARTS = ("train", "validation")
_ABOUT = "about.json"


@contextmanager
def shared(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write ``dataset`` into ``folder`` for ``map_dataset``, and delete the folder at the end.

    The folder's former content is deleted. MNIST takes 47 MB, written in 10 ms.

    Raises:
        OSError: it cannot be written.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for part in PARTS:
            split: Split = getattr(dataset, part)
            _save(folder / f"{part}-images.npy", split.images)
            _save(folder / f"{part}-labels.npy", split.labels)
        about = {
            "name": dataset.name,
            "source": dataset.source,
            "form": asdict(dataset.form),
            "image_size": dataset.image_size,
            "facts": asdict(dataset.facts),
        }
        digests = {part: getattr(dataset, part).digest for part in PARTS}
        (folder / _ABOUT).write_text(json.dumps({**about, "digests": digests}))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save(path: Path, array: NDArray[np.uint8]) -> None:
    """Save an array as ``np.save``, whose error for a full disk does not say that it is one."""
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
        file.write(array.data)


def map_dataset(folder: Path) -> Dataset:
    """Map the data set that ``shared`` wrote into ``folder``; its arrays are read-only."""
    about = json.loads((folder / _ABOUT).read_text())
    digests = about.pop("digests")
    about["form"] = ImageForm.from_dict(about["form"])
    about["facts"] = DatasetFacts(**about["facts"])
    train, validation = (_map_split(folder, part, digests[part]) for part in PARTS)
    return Dataset(train=train, validation=validation, **about)


def _map_split(folder: Path, part: str, digest: str) -> Split:
    images, labels = (
        np.asarray(np.load(folder / f"{part}-{name}.npy", mmap_mode="r"))
        for name in ("images", "labels")
    )
    return Split(images=images, labels=labels, digest=digest)
