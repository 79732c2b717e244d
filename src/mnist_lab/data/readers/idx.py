"""IDX, the format of Yann LeCun's MNIST page, gzipped or not; and EMNIST, which is transposed.

A file is a big-endian header of magic number ``0x0800 | dims`` and sizes, then unsigned bytes.
"""

from __future__ import annotations

import gzip
import re
import string
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data.arrays import Unusable
from mnist_lab.data.readers.keys import pair_up, part_of
from mnist_lab.data.readers.reader import RawPart, Source
from mnist_lab.errors import DataError

_DIGITS, _UPPER, _LOWER = string.digits, string.ascii_uppercase, string.ascii_lowercase
# The classes of EMNIST's subsets (Cohen et al. 2017, "EMNIST: an extension of MNIST to handwritten
# letters"); letters whose two forms look alike are merged.
_EMNIST = {
    "byclass": _DIGITS + _UPPER + _LOWER,
    "bymerge": _DIGITS + _UPPER + "abdefghnqrt",
    "balanced": _DIGITS + _UPPER + "abdefghnqrt",
    "letters": " " + _UPPER,  # labels start at 1
    "digits": _DIGITS,
    "mnist": _DIGITS,
}


class IdxReader:
    """A folder with ``train-images…`` and ``train-labels…`` (and ``t10k…``), or one of these files."""

    name = "IDX files"

    def matches(self, path: Path) -> bool:
        return bool(_files(path)) if path.is_dir() else _is_idx_name(path)

    def read(self, path: Path) -> Source:
        files = _files(path) if path.is_dir() else _of_one_set(path)
        sets = {_set_name(each) for each in files}
        if len(sets) > 1:
            raise DataError(
                f"{path} holds several data sets: {', '.join(sorted(sets))}.",
                safe="Nothing was trained.",
                next_step=f"Give one of their files, such as {files[0]}.",
            )
        by_stem = {each.name: each for each in files}
        pairs = pair_up(by_stem)
        name = sets.pop()
        emnist = _EMNIST.get(name.removeprefix("emnist-")) if "emnist" in name else None
        parts = {}
        for part, (images, labels) in pairs.items():
            pixels = read_idx(by_stem[images], dims=3)
            parts[part] = RawPart(
                images=pixels.transpose(0, 2, 1) if emnist else pixels,
                labels=read_idx(by_stem[labels], dims=1),
            )
        return Source(
            parts=parts,
            class_names=tuple(emnist) if emnist else None,
            shuffled=True,
            notes=("EMNIST's images were turned upright",) if emnist else (),
        )


def read_idx(path: Path, *, dims: int) -> NDArray[np.uint8]:
    """Read one file of ``dims`` dimensions.

    Raises:
        Unusable: it is damaged, cut short, or of other dimensions.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except (OSError, EOFError, zlib.error) as error:
        raise Unusable(f"{path.name} unreadable ({error})", "a whole IDX file") from error
    header = 4 * (1 + dims)
    if len(content) < header:
        raise Unusable(f"{path.name} of {len(content)} bytes", f"an IDX header of {header} bytes")
    magic, *sizes = (int(value) for value in np.frombuffer(content, ">u4", count=1 + dims))
    if magic != 0x0800 + dims:
        raise Unusable(f"{path.name} of magic number 0x{magic:08x}", f"0x{0x0800 + dims:08x}")
    expected = int(np.prod(sizes))
    if len(content) - header != expected:
        raise Unusable(
            f"{path.name} of {len(content) - header} data bytes", f"{expected} ({sizes})"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(sizes)


def _is_idx_name(path: Path) -> bool:
    return path.is_file() and re.search(r"ubyte(\.gz)?$", path.name) is not None


def _files(folder: Path) -> list[Path]:
    """Return the IDX files of a folder, or of the one folder below it that has some.

    Some unpackers make a folder of each file's name with the file in it; torchvision has ``MNIST/raw``.
    Of a file that lies there gzipped too, the unpacked one is taken.
    """
    found = sorted(each for each in folder.rglob("*ubyte*") if _is_idx_name(each))
    if any(each.parent == folder for each in found):
        found = [each for each in found if each.parent == folder]
    unpacked = {each for each in found if each.suffix != ".gz"}
    return [each for each in found if each.suffix != ".gz" or each.with_suffix("") not in unpacked]


def _set_name(path: Path) -> str:
    """Return what stands before the part: ``emnist-letters`` of ``emnist-letters-train-images…``."""
    return re.split(r"[-_.]?(?:train|t10k|test)\b", path.name, maxsplit=1)[0]


def _of_one_set(path: Path) -> list[Path]:
    if part_of(path.name) is None:
        raise Unusable("a single IDX file", "files named train-images… and train-labels…")
    return [each for each in _files(path.parent) if _set_name(each) == _set_name(path)]
