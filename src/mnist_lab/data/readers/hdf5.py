"""HDF5 and MATLAB files: named arrays; SVHN's and EMNIST's ``.mat``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data.arrays import Unusable
from mnist_lab.data.readers.keys import pair_up, part_of
from mnist_lab.data.readers.npz import make_source
from mnist_lab.data.readers.reader import RawPart, Source
from mnist_lab.data.splits import PartName

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_HDF5_MAGIC = b"\x89HDF"


class Hdf5Reader:
    """Datasets that ``keys.pair_up`` recognises, in the file's root or in one group a part."""

    name = "an HDF5 file"

    def matches(self, path: Path) -> bool:
        return path.is_file() and path.suffix.lower() in HDF5_SUFFIXES

    def read(self, path: Path) -> Source:
        arrays = _read_hdf5(path)
        return make_source(pair_up(arrays), arrays.__getitem__)


class MatReader:
    """One ``.mat`` file, or ``train_32x32.mat`` beside ``test_32x32.mat`` as SVHN has them."""

    name = "MATLAB files"

    def matches(self, path: Path) -> bool:
        return bool(_mat_files(path))

    def read(self, path: Path) -> Source:
        parts: dict[PartName, RawPart] = {}
        notes: set[str] = set()
        for file in _mat_files(path):
            source = _read_mat(file)
            notes.update(source.notes)
            for part, raw in source.parts.items():
                parts[part_of(file.stem) or part] = raw
        if "train" not in parts:
            parts = {
                "train" if part == "test" and len(parts) == 1 else part: raw
                for part, raw in parts.items()
            }
        return Source(parts=parts, shuffled=True, notes=tuple(sorted(notes)))


def _mat_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".mat" else []
    return [each for each in sorted(path.glob("*.mat")) if part_of(each.stem) is not None]


def _read_mat(path: Path) -> Source:
    from scipy.io import loadmat

    try:
        with path.open("rb") as file:
            is_hdf5 = b"MATLAB 7.3" in file.read(128)
        arrays: dict[str, Any] = _read_hdf5(path) if is_hdf5 else loadmat(path, simplify_cells=True)
    except (ValueError, TypeError, OSError, NotImplementedError) as error:
        raise Unusable(f"unreadable ({error})", "a whole .mat file") from error
    if isinstance(arrays.get("dataset"), dict):
        return _read_emnist(arrays["dataset"])
    named = {key: np.asarray(value) for key, value in arrays.items() if not key.startswith("__")}
    if is_hdf5:  # MATLAB stores the last axis first
        named = {key: value.transpose() for key, value in named.items()}
    pairs = pair_up(named)
    parts = {}
    turned = False
    for part, (images, labels) in pairs.items():
        pixels, numbers = named[images], named[labels].reshape(-1)
        if pixels.ndim == 4 and pixels.shape[3] == len(numbers):  # (H, W, 3, N)
            pixels = np.moveaxis(pixels, 3, 0)
            if numbers.min() == 1 and numbers.max() == 10:
                numbers, turned = numbers % 10, True
        elif pixels.ndim == 3 and pixels.shape[2] == len(numbers) != pixels.shape[0]:
            pixels = np.moveaxis(pixels, 2, 0)
        parts[part] = RawPart(images=pixels, labels=numbers)
    notes = ("label 10 is the digit 0, as SVHN has it",) if turned else ()
    return Source(parts=parts, shuffled=True, notes=notes)


def _read_emnist(dataset: Mapping[str, Any]) -> Source:
    """Read EMNIST's structure; its rows ``(N, 784)`` are columns first."""
    mapping = np.asarray(dataset["mapping"]).reshape(-1, np.asarray(dataset["mapping"]).shape[-1])
    names = {
        int(row[0]): "/".join(dict.fromkeys(chr(int(each)) for each in row[1:])) for row in mapping
    }
    parts: dict[PartName, RawPart] = {}
    names_of_parts: tuple[PartName, ...] = ("train", "test")
    for part in names_of_parts:
        images = np.asarray(dataset[part]["images"])
        side = int(images.shape[1] ** 0.5)
        parts[part] = RawPart(
            images=images.reshape(-1, side, side).transpose(0, 2, 1),
            labels=np.asarray(dataset[part]["labels"]).reshape(-1),
        )
    return Source(
        parts=parts,
        class_names=tuple(names.get(label, "") for label in range(max(names) + 1)),
        shuffled=True,
        notes=("EMNIST's images were turned upright",),
    )


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    """Read every dataset of the file, by its path in it; links to other files are refused."""
    import h5py

    arrays: dict[str, NDArray[Any]] = {}

    def visit(group: h5py.Group, prefix: str) -> None:
        for key in group:
            if isinstance(group.get(key, getlink=True), h5py.ExternalLink):
                raise Unusable(f"a link to another file ({prefix}{key})", "all arrays in one file")
            item = group[key]
            if isinstance(item, h5py.Group) and not prefix.count("/") > 3:
                visit(item, f"{prefix}{key}/")
            elif isinstance(item, h5py.Dataset) and item.ndim > 0:
                if item.external or item.is_virtual:
                    raise Unusable(
                        f"data of another file ({prefix}{key})", "all arrays in one file"
                    )
                arrays[f"{prefix}{key}"] = item[()]

    try:
        with path.open("rb") as probe:
            if not probe.read(4).startswith(_HDF5_MAGIC) and path.suffix.lower() != ".mat":
                raise Unusable("unreadable (no HDF5 signature)", "a whole HDF5 file")
        with h5py.File(path, "r") as file:
            visit(file, "")
    except (OSError, KeyError, RuntimeError) as error:
        raise Unusable(f"unreadable ({error})", "a whole HDF5 file") from error
    return arrays
