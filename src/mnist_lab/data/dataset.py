"""``Dataset``: two disjoint, read-only splits, each identified by its digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IMAGE_SHAPE = (28, 28)
CLASSES = 10
# The notebook's sizes, 50,000 + 10,000, as a ratio: the last sixth of the images validates.
VALIDATION_SHARE = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Images ``(N, 28, 28) uint8`` in [0, 255] and labels ``(N,) uint8`` in [0, 9], both read-only.

    ``digest`` is the sha256 of shape, images and labels: two splits with one digest are the same.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    digest: str

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """The training and validation splits of a data set, never its test images.

    ``source`` is the name or path that ``load_dataset`` was called with, made absolute, so that the
    same data can be loaded again, anywhere and later.
    """

    name: str
    source: str
    train: Split
    validation: Split
    classes: int = CLASSES

    @property
    def digest(self) -> str:
        """sha256 over the digests of both splits: one value that names the data of a study."""
        return hashlib.sha256(f"{self.train.digest}{self.validation.digest}".encode()).hexdigest()


def make_split(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Split:
    """Freeze the arrays and compute their digest."""
    images, labels = np.ascontiguousarray(images), np.ascontiguousarray(labels)
    content = hashlib.sha256(str(images.shape).encode())
    content.update(images.data)
    content.update(labels.data)
    images.flags.writeable = labels.flags.writeable = False
    return Split(images=images, labels=labels, digest=content.hexdigest())


def divide(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> tuple[Split, Split]:
    """Cut ``N`` training images into train (the first 5/6) and validation (the last 1/6).

    MNIST's files are shuffled already, so a fixed cut is as good as a drawn one, and needs no seed:
    60,000 images become 50,000 and 10,000, as the notebook meant to do.
    """
    cut = len(labels) - len(labels) // VALIDATION_SHARE
    return make_split(images[:cut], labels[:cut]), make_split(images[cut:], labels[cut:])
