"""NumPy: an ``.npz`` of named arrays, or a folder of ``.npy`` or ``.npz`` with one array each."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from mnist_lab.data.arrays import Unusable
from mnist_lab.data.readers.keys import pair_up, part_of
from mnist_lab.data.readers.reader import RawPart, Source
from mnist_lab.data.splits import PartName

SUFFIXES = (".npz", ".npy")


class NpzReader:
    """Keras's ``mnist.npz``, MedMNIST, and whatever ``keys.pair_up`` recognises; Kuzushiji's pairs."""

    name = "NumPy arrays"

    def matches(self, path: Path) -> bool:
        if path.is_dir():
            return any(each.suffix in SUFFIXES for each in path.iterdir() if each.is_file())
        return path.suffix in SUFFIXES

    def read(self, path: Path) -> Source:
        if path.is_dir():
            return _read_files(sorted(e for e in path.iterdir() if e.suffix in SUFFIXES))
        if path.suffix == ".npy":
            return _read_files(_siblings(path))
        with open_npz(path) as archive:
            if archive.files == ["arr_0"]:
                return _read_files(_siblings(path))
            return make_source(pair_up(archive.files), archive.__getitem__)


def make_source(
    pairs: Mapping[PartName, tuple[str, str]], read: Callable[[str], NDArray[Any]]
) -> Source:
    """Read the arrays of ``pairs``; such files are usually shuffled."""
    parts = {
        part: RawPart(images=read(images), labels=read(labels))
        for part, (images, labels) in pairs.items()
    }
    return Source(parts=parts, shuffled=True)


@contextmanager
def open_npz(path: Path) -> Iterator[NpzFile]:
    """Open an ``.npz`` file; raise ``Unusable`` for whatever is wrong with it."""
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, NpzFile):
                raise Unusable("a single NumPy array", "an .npz of several")
            yield archive
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _refusal(error, "a whole .npz file") from error


def _refusal(error: Exception, expected: str) -> Unusable:
    objects = "allow_pickle" in str(error)
    reason = "an array of Python objects, which can run code" if objects else str(error)
    return Unusable(f"unreadable ({reason})", expected)


def _siblings(path: Path) -> list[Path]:
    """Return the arrays beside ``path``; of several sets in a folder, those of its first word."""
    first = re.split(r"[-_.]", path.stem)[0]
    is_set = part_of(first) is None and first not in ("x", "y", "X", "Y", "images", "labels")
    return sorted(path.parent.glob(f"{first if is_set else ''}*{path.suffix}"))


def _read_files(files: list[Path]) -> Source:
    by_stem = {each.stem: each for each in files}
    return make_source(pair_up(by_stem), lambda stem: read_array(by_stem[stem]))


def read_array(path: Path) -> NDArray[Any]:
    """Read an ``.npy`` file, or the one array of an ``.npz``."""
    if path.suffix == ".npz":
        with open_npz(path) as archive:
            if len(archive.files) != 1:
                raise Unusable(f"{path.name} with {len(archive.files)} arrays", "one array a file")
            return archive[archive.files[0]]
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _refusal(error, "a whole .npy file") from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise Unusable("unreadable (an archive under the name of an array)", "a whole .npy file")
    return found
