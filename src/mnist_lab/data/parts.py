"""The public images in six parts, so that a training can leave out another part than the validation's.

Part 5 is the validation part; the training part is divided into parts 0 to 4.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data.dataset import Dataset, Split, make_split
from mnist_lab.data.splits import image_digests

PARTS = 6
VALIDATION_PART = PARTS - 1


def part_rows(training: Split, part: int) -> NDArray[np.intp]:
    """Return the rows of ``training`` that are of ``part``, 0 to 4, ascending.

    Each part has a fifth of every class. Which images that are depends on their bytes alone, and
    copies of an image with the same label are in one part.
    """
    digests = np.array(image_digests(training.images))
    order = np.lexsort((digests, training.labels))
    is_new = np.ones(len(order), bool)
    is_new[1:] = digests[order[1:]] != digests[order[:-1]]
    groups = np.cumsum(is_new) - 1
    return np.sort(order[groups % VALIDATION_PART == part])


def part_split(dataset: Dataset, part: int) -> Split:
    """Return the images of ``part``, in the order that ``dataset`` has them."""
    if part == VALIDATION_PART:
        return dataset.validation
    rows, training = part_rows(dataset.train, part), dataset.train
    return make_split(training.images[rows], training.labels[rows])


def part_labels(dataset: Dataset, part: int) -> NDArray[np.uint8]:
    """Return the labels of the images of ``part``, in the order of ``part_split``."""
    if part == VALIDATION_PART:
        return dataset.validation.labels
    found: NDArray[np.uint8] = dataset.train.labels[part_rows(dataset.train, part)]
    return found


def leave_out(dataset: Dataset, part: int) -> Dataset:
    """Return ``dataset`` divided anew: ``part`` validates, and all other public images train."""
    if part == VALIDATION_PART:
        return dataset
    training, validation = dataset.train, dataset.validation
    rows = part_rows(training, part)
    others = np.ones(len(training), bool)
    others[rows] = False
    return replace(
        dataset,
        train=make_split(
            np.concatenate([training.images[others], validation.images]),
            np.concatenate([training.labels[others], validation.labels]),
        ),
        validation=make_split(training.images[rows], training.labels[rows]),
    )
