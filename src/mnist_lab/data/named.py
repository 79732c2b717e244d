"""Data sets known by name: bundled, shipped by scikit-learn, or downloaded by ``keras.datasets``."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

from mnist_lab.data.readers import RawPart, Source
from mnist_lab.errors import DataError

BUNDLED = "mnist"
DIGITS = "digits"
# Their classes, where the files have numbers: as the authors' pages name them.
DOWNLOADABLE: dict[str, tuple[str, ...] | None] = {
    "fashion_mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    ),
    "cifar10": (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
    "cifar100": None,
}  # fmt: skip
NAMES = (BUNDLED, *DOWNLOADABLE, DIGITS)


def locate_named(name: str, data_folder: Path) -> Path:
    """Return the file of a data set of ``NAMES`` but ``digits``, downloading one that is not there."""
    if name == BUNDLED:
        return Path(str(files("mnist_lab.data") / "mnist.npz"))
    kept = data_folder / f"{name}.npz"
    return kept if kept.exists() else _download(name, kept)


def read_digits() -> Source:
    """Read scikit-learn's digits: 1,797 images of 8x8, whose 17 values of grey become 0 to 255."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    return Source(parts={"train": RawPart(images=images, labels=found.target)})


def _download(name: str, kept: Path) -> Path:
    # In a process of its own, because only ``keras.datasets`` knows the address and this one must
    # not import Keras.
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lab.data.download", name, str(kept)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(
            f"The data set {name!r} is not in {kept.parent} and could not be downloaded: {reason}",
            safe="Nothing was trained.",
            next_step=f"Put it there as {kept.name} (x_train, y_train, x_test, y_test), or give "
            "--dataset a path.",
        )
    return kept
