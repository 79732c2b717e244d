"""The two file formats that data sets of this shape come in, read with every fact checked.

* ``.npz`` with Keras's four keys ``x_train y_train x_test y_test``;
* a folder of IDX files (gzipped or not), the format of Yann LeCun's MNIST page: a big-endian header
  of magic number ``0x08030000 | dims`` and sizes, then unsigned bytes.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from mnist_lab.data.dataset import CLASSES, IMAGE_SHAPE, VALIDATION_SHARE
from mnist_lab.errors import DataError

Part = Literal["train", "test"]
Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]

_IDX_PREFIX = {"train": "train", "test": "t10k"}
_EXPECTED = "an .npz file or a folder of IDX files"
WAYS = "Give an .npz with x_train y_train x_test y_test (numpy.savez), or a folder of IDX files."
# The first bytes of files that are no data sets, so that the error can name them.
_OTHER_FILES: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"\x93NUMPY": "a single NumPy array",
    b"\x00\x00\x08": "a single IDX file",
    b"\x1f\x8b": "a single gzip file",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
    b"\x80": "a pickle, which can run code",
}


def read_part(path: Path, part: Part) -> Arrays:
    """Read the images ``(N, 28, 28) uint8`` and labels ``(N,) uint8`` of one part of a data set.

    Raises:
        DataError: the file is absent, unreadable, or not such images and labels.
    """
    reader: Callable[[Path, Part], Arrays] = _read_idx if path.is_dir() else _read_npz
    images, labels = reader(path, part)
    return _checked(path, part, images, labels)


def read_images(path: Path) -> NDArray[np.uint8]:
    """Read images without labels, ``(N, 28, 28) uint8``: an IDX file, or an ``.npy`` of them or of one.

    Raises:
        DataError: the file is absent, unreadable, or not such images.
    """
    is_array = path.suffix == ".npy"
    try:
        images = np.load(path, allow_pickle=False) if is_array else _read_idx_file(path, dims=3)
        images = images[None] if images.ndim == 2 else images
        found = f"{images.dtype} of shape {images.shape}"
        if images.dtype == np.uint8 and images.shape[1:] == IMAGE_SHAPE and len(images):
            checked: NDArray[np.uint8] = images
            return checked
    except FileNotFoundError:
        found = "no such file"
    except (OSError, ValueError, EOFError, AttributeError, DataError) as error:
        found = f"unreadable ({error})"
    raise DataError(
        f"{path} holds no images that can be read: found {found}, expected (N, 28, 28) uint8.",
        next_step="Give an .npy file of such an array, or an IDX file of images.",
    )


def has_part(path: Path, part: Part) -> bool:
    """Return whether a data set has the images and labels of one part, without reading them.

    Raises:
        DataError: the file is absent, or no data set.
    """
    if path.is_dir():
        return all(_find_idx(path, f"{_IDX_PREFIX[part]}-{kind}") for kind in ("images", "labels"))
    with _open_npz(path) as archive:
        return {f"x_{part}", f"y_{part}"} <= set(archive.files)


def _read_npz(path: Path, part: Part) -> Arrays:
    keys = (f"x_{part}", f"y_{part}")
    with _open_npz(path) as archive:
        if not set(keys) <= set(archive.files):
            raise _bad(path, f"the keys {sorted(archive.files)}", f"{keys[0]}, {keys[1]}")
        return archive[keys[0]], archive[keys[1]]


@contextmanager
def _open_npz(path: Path) -> Iterator[NpzFile]:
    """Open an ``.npz`` file; raise ``DataError`` for whatever is wrong with it."""
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as file:
            head = file.read(4096)
            if not head.startswith(b"PK"):
                raise _bad(path, _describe(path, head), _EXPECTED, next_step=WAYS)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                yield archive
    except FileNotFoundError:
        raise _bad(path, "no such file", _EXPECTED) from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        objects = "allow_pickle" in str(error)
        reason = "an array of Python objects, which can run code" if objects else error
        raise _bad(path, f"unreadable ({reason})", "a whole .npz file") from error


def _describe(path: Path, head: bytes) -> str:
    """Return the kind of a file that is no ``.npz``, by its first bytes."""
    for start, kind in _OTHER_FILES.items():
        if head.startswith(start):
            return kind
    if not head:
        return "an empty file"
    if b"\0" in head:
        return "a file of no known kind"
    return "a CSV file" if path.suffix.lower() in (".csv", ".tsv") else "a text file"


def _read_idx(folder: Path, part: Part) -> Arrays:
    prefix = _IDX_PREFIX[part]
    return (
        _read_idx_file(_find(folder, f"{prefix}-images"), dims=3),
        _read_idx_file(_find(folder, f"{prefix}-labels"), dims=1),
    )


def _find(folder: Path, stem: str) -> Path:
    found = _find_idx(folder, stem)
    if not found:
        elsewhere = sorted(
            {each.parent for each in folder.rglob(f"{stem}*ubyte*") if each.is_file()}
        )
        raise _bad(
            folder,
            "a folder without it" if elsewhere else "no such file in the folder",
            f"{stem}-idx?-ubyte or {stem}-idx?-ubyte.gz",
            next_step=f"Give the folder {elsewhere[0]}." if elsewhere else WAYS,
        )
    return found[0]


def _find_idx(folder: Path, stem: str) -> list[Path]:
    found = sorted(folder.glob(f"{stem}*ubyte")) + sorted(folder.glob(f"{stem}*ubyte.gz"))
    return [each for each in found if each.is_file()]


def _read_idx_file(path: Path, *, dims: int) -> NDArray[np.uint8]:
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise _bad(path, f"unreadable ({error})", "a whole IDX file") from error
    header = 4 * (1 + dims)
    if len(content) < header:
        raise _bad(path, f"{len(content)} bytes", f"an IDX header of {header} bytes")
    magic, *sizes = (int(value) for value in np.frombuffer(content, ">u4", count=1 + dims))
    if magic != 0x0800 + dims:
        raise _bad(path, f"magic number 0x{magic:08x}", f"0x{0x0800 + dims:08x}")
    expected = int(np.prod(sizes))
    if len(content) - header != expected:
        raise _bad(path, f"{len(content) - header} data bytes", f"{expected} ({sizes})")
    return np.frombuffer(content, np.uint8, offset=header).reshape(sizes)


def _checked(
    path: Path, part: Part, images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> Arrays:
    if images.dtype != np.uint8:
        raise _bad(path, f"x_{part} of dtype {images.dtype}", "uint8 pixels in [0, 255]")
    if images.ndim != 3 or images.shape[1:] != IMAGE_SHAPE:
        raise _bad(path, f"x_{part} of shape {images.shape}", "(N, 28, 28)")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise _bad(
            path, f"y_{part} of {labels.dtype} {labels.shape}", "whole numbers of shape (N,)"
        )
    if len(images) != len(labels):
        raise _bad(path, f"{len(images)} images and {len(labels)} labels", "as many as images")
    least = {"train": VALIDATION_SHARE, "test": 1}[part]
    if len(labels) < least:
        raise _bad(path, f"{len(labels)} {part} images", f"at least {least}")
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise _bad(path, f"labels {labels.min()} to {labels.max()}", f"0 to {CLASSES - 1}")
    return images, labels.astype(np.uint8)


def _bad(
    path: Path, found: str, expected: str, *, next_step: str = "See: mnist-lab data --help"
) -> DataError:
    return DataError(
        f"{path} is not a usable data set: found {found}, expected {expected}.",
        safe="Nothing was trained.",
        next_step=next_step,
    )
