"""The two file formats that data sets of this shape come in, read with every fact checked.

* ``.npz`` with Keras's four keys ``x_train y_train x_test y_test``;
* a folder of IDX files (gzipped or not), the format of Yann LeCun's MNIST page: a big-endian header
  of magic number ``0x08030000 | dims`` and sizes, then unsigned bytes.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data.dataset import CLASSES, IMAGE_SHAPE, VALIDATION_SHARE
from mnist_lab.errors import DataError

Part = Literal["train", "test"]
Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]

_IDX_PREFIX = {"train": "train", "test": "t10k"}


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


def _read_npz(path: Path, part: Part) -> Arrays:
    keys = (f"x_{part}", f"y_{part}")
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive]
            if missing:
                raise _bad(
                    path, f"it has the keys {sorted(archive.files)}", f"{keys[0]}, {keys[1]}"
                )
            return archive[keys[0]], archive[keys[1]]
    except FileNotFoundError:
        raise _bad(path, "no such file", "an .npz file or a folder of IDX files") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _bad(path, f"unreadable ({error})", "a whole .npz file") from error


def _read_idx(folder: Path, part: Part) -> Arrays:
    prefix = _IDX_PREFIX[part]
    return (
        _read_idx_file(_find(folder, f"{prefix}-images"), dims=3),
        _read_idx_file(_find(folder, f"{prefix}-labels"), dims=1),
    )


def _find(folder: Path, stem: str) -> Path:
    found = sorted(folder.glob(f"{stem}*ubyte")) + sorted(folder.glob(f"{stem}*ubyte.gz"))
    if not found:
        raise _bad(folder, "no such file", f"{stem}-idx?-ubyte or {stem}-idx?-ubyte.gz")
    return found[0]


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


def _bad(path: Path, found: str, expected: str) -> DataError:
    return DataError(
        f"{path} is not a usable data set: found {found}, expected {expected}.",
        safe="Nothing was trained.",
        next_step="See: mnist-lab data --help",
    )
