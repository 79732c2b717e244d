"""CIFAR's binary version; its Python version is pickled, and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mnist_lab.data.arrays import Unusable
from mnist_lab.data.readers.reader import RawPart, Source
from mnist_lab.errors import DataError

_PIXELS = 3 * 32 * 32


class CifarReader:
    """``cifar-10-batches-bin`` and ``cifar-100-binary``: records of labels and 3072 bytes."""

    name = "CIFAR's binary files"

    def matches(self, path: Path) -> bool:
        return path.is_dir() and bool(_train_files(path))

    def read(self, path: Path) -> Source:
        names = next(iter(path.glob("*fine_label_names.txt")), path / "batches.meta.txt")
        known = tuple(names.read_text().split()) if names.exists() else None
        labels = 2 if (path / "train.bin").exists() else 1
        test = path / ("test.bin" if labels == 2 else "test_batch.bin")
        parts = {"train": _read(_train_files(path), labels)}
        if test.exists():
            parts["test"] = _read([test], labels)
        return Source(parts=parts, class_names=known, shuffled=True)  # type: ignore[arg-type]


class PickleReader:
    """Matches Python pickles, to refuse them by name."""

    name = "a Python pickle"

    def matches(self, path: Path) -> bool:
        if path.is_dir():
            return any((path / each).is_file() for each in ("data_batch_1", "train", "meta"))
        if path.suffix in (".pkl", ".pickle"):
            return True
        with path.open("rb") as file:
            return file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

    def read(self, path: Path) -> Source:
        raise DataError(
            f"{path} is a Python pickle, which can run code when it is read.",
            safe="Nothing was read.",
            next_step="Give CIFAR's binary version (cifar-10-batches-bin), or an .npz of the arrays.",
        )


def _train_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("data_batch_*.bin")) or [
        each for each in (folder / "train.bin",) if each.exists()
    ]


def _read(files: list[Path], labels: int) -> RawPart:
    raw = np.concatenate([np.fromfile(each, np.uint8) for each in files])
    if len(raw) == 0 or len(raw) % (labels + _PIXELS):
        raise Unusable(f"{len(raw)} bytes", f"records of {labels + _PIXELS} bytes")
    rows = raw.reshape(-1, labels + _PIXELS)
    images = rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return RawPart(images=images, labels=rows[:, labels - 1])
