"""The registry of readers, and the search for the one that takes a path."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data.arrays import Unusable, as_pixels
from mnist_lab.data.readers.cifar import CifarReader, PickleReader
from mnist_lab.data.readers.folder import FolderReader
from mnist_lab.data.readers.hdf5 import Hdf5Reader, MatReader
from mnist_lab.data.readers.idx import IdxReader, read_idx
from mnist_lab.data.readers.npz import NpzReader, read_array
from mnist_lab.data.readers.reader import Reader, Source
from mnist_lab.data.readers.table import CsvReader, ParquetReader
from mnist_lab.errors import DataError

# Asked in this order; a folder may hold files of several forms.
READERS: tuple[Reader, ...] = (
    IdxReader(), ParquetReader(), NpzReader(), MatReader(), Hdf5Reader(), CifarReader(),
    CsvReader(), FolderReader(), PickleReader(),
)  # fmt: skip
WAYS = (
    "Give a folder with a folder of pictures for each class (or a zip of it), an .npz or .h5 with "
    "x_train and y_train, a CSV of label and pixels, parquet files of the Hugging Face hub, or IDX "
    "files."
)
# The first bytes of files that are no data sets, so that the error can name them.
_OTHER_FILES = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"\x93NUMPY": "a single NumPy array",
    b"\x00\x00\x08": "a single IDX file",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
    b"PK": "a zip file",
}


def read_source(path: Path) -> Source:
    """Read ``path`` with the first reader that it matches.

    Raises:
        DataError: no reader takes it, or it is damaged or incomplete; the sentence says what would do.
    """
    try:
        reader = next((each for each in (*_added(), *READERS) if each.matches(path)), None)
        source = reader.read(path) if reader is not None else _refuse_unknown(path)
        _require_training_part(source)
    except Unusable as error:
        raise refuse(path, error) from error
    except OSError as error:
        raise refuse(path, Unusable(f"unreadable ({error})", "labelled images")) from error
    return source


def read_images(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read images without labels, ``(N, *shape) uint8``: an IDX file, or an ``.npy`` of them or of one.

    Raises:
        DataError: the file is absent, unreadable, or not such images.
    """
    try:
        found = read_array(path) if path.suffix == ".npy" else read_idx(path, dims=3)
        pixels = as_pixels(found if found.shape != shape else found[None])
        if pixels.shape[1:] == shape:
            return pixels
        reason = f"{found.dtype} of shape {found.shape}"
    except Unusable as error:
        reason = error.found
    except FileNotFoundError:
        reason = "no such file"
    except OSError as error:
        reason = str(error.strerror or error)
    expected = ", ".join(["N", *map(str, shape)])
    raise DataError(
        f"{path} holds no images that can be read: found {reason}, expected ({expected}) uint8.",
        next_step="Give an .npy file of such an array, or an IDX file of images.",
    )


def refuse(path: Path | str, error: Unusable) -> DataError:
    """Make the error that the user sees."""
    return DataError(
        f"{path} is not a usable data set: found {error.found}, expected {error.expected}.",
        safe="Nothing was trained.",
        next_step=error.next_step or WAYS,
    )


@cache
def _added() -> tuple[Reader, ...]:
    """Return the readers of installed packages."""
    return tuple(each.load() for each in entry_points(group="mnist_lab.readers"))


def _require_training_part(source: Source) -> None:
    if "train" not in source.parts:
        found = ", ".join(source.parts) or "nothing"
        raise Unusable(f"no images to train on, only {found}", "a part for training")


def _refuse_unknown(path: Path) -> Source:
    raise Unusable(_describe(path), "labelled images")


def _describe(path: Path) -> str:
    if path.is_dir():
        names = sorted(each.name for each in path.iterdir())
        return f"a folder of {', '.join(names[:5])}" if names else "an empty folder"
    with path.open("rb") as file:
        head = file.read(4096)
    for start, kind in _OTHER_FILES.items():
        if head.startswith(start):
            return kind
    if not head:
        return "an empty file"
    return "a file of no known kind" if b"\0" in head else "a text file"
