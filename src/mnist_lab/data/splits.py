"""Training, validation and test parts: as the layout has them, else cut by a rule of the bytes alone.

Equal images always fall in the same part, whatever the order of the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data.arrays import Unusable

PartName = Literal["train", "validation", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")
# The notebook's sizes, 50,000 + 10,000, as a ratio.
HELD_OUT = 6
# Standard errors: of a shuffled file, one of ten shares is further off once in two million files.
MOST_OFF = 5.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Images ``(N, H, W)`` or ``(N, H, W, 3) uint8`` and their labels ``(N,) uint8``.

    ``places (N,)`` says where each image lies in the source: a file's name, or ``train[123]``.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    places: NDArray[np.str_] | None = None

    def take(self, chosen: NDArray[Any] | slice) -> Labelled:
        return Labelled(
            images=self.images[chosen],
            labels=self.labels[chosen],
            places=None if self.places is None else self.places[chosen],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Three disjoint parts; ``rules`` says for each that was cut how, in words."""

    train: Labelled
    validation: Labelled
    test: Labelled
    rules: tuple[str, ...]


def divide(given: Mapping[PartName, Labelled], classes: int, *, shuffled: bool) -> Parts:
    """Return the layout's parts, and cut those that it lacks out of ``train``.

    The test part first: one sixth of each class, chosen by the digests of the images. Then the
    validation part: the last sixth of a file that is ``shuffled`` and looks so (MNIST's own files, and
    the digests of studies made with them, stay as they are), else again a sixth of each class.

    Raises:
        Unusable: a class that the training part lacks, or that has too few images to be divided.
    """
    train, rules = given["train"], []
    test, validation = given.get("test"), given.get("validation")
    if test is None:
        train, test = _stratified(train, classes)
        rules.append("no test images: 1/6 sealed")
    if validation is None:
        cut = len(train.labels) - len(train.labels) // HELD_OUT
        if shuffled and "test" in given and _is_mixed(train.labels, cut, classes):
            train, validation = train.take(slice(cut)), train.take(slice(cut, None))
            rules.insert(0, "the last 1/6 validates")
        else:
            train, validation = _stratified(train, classes)
            rules.insert(0, "1/6 of each class validates, chosen by the images' digests")
    return Parts(train=train, validation=validation, test=test, rules=tuple(rules))


def image_digests(images: NDArray[np.uint8]) -> list[bytes]:
    """Return the sha256 of each image's pixels."""
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def _is_mixed(labels: NDArray[np.uint8], cut: int, classes: int) -> bool:
    """Return whether the images before and after ``cut`` may come from one shuffled file.

    Each class's two shares are compared: in a shuffled file their difference is a few standard errors.
    A class that one side lacks decides at once.
    """
    table = np.stack(
        [np.bincount(side, minlength=classes) for side in (labels[:cut], labels[cut:])]
    )
    present = table[:, table.sum(axis=0) > 0]
    if (present == 0).any():
        return False
    sizes = present.sum(axis=1)
    first, second = present / sizes[:, None]
    pooled = present.sum(axis=0) / sizes.sum()
    error = np.sqrt(pooled * (1 - pooled) * (1 / sizes).sum())
    return bool((np.abs(first - second) <= MOST_OFF * error).all())


def _stratified(part: Labelled, classes: int) -> tuple[Labelled, Labelled]:
    """Return the rest, and one sixth of each class: the images of the least digests.

    Copies of an image share its digest, so they are never divided.
    """
    digests = image_digests(part.images)
    held_out = np.zeros(len(part.labels), bool)
    for label in range(classes):
        rows = np.flatnonzero(part.labels == label)
        if len(rows) == 0:
            continue
        ordered = sorted(rows, key=digests.__getitem__)
        cut = max(1, len(rows) // HELD_OUT)
        while cut < len(rows) and digests[ordered[cut]] == digests[ordered[cut - 1]]:
            cut += 1
        if cut == len(rows):
            raise Unusable(
                f"too few different images of a class to divide ({len(rows)} of class {label})",
                "at least 6 different images of each class",
            )
        held_out[ordered[:cut]] = True
    return part.take(~held_out), part.take(held_out)
