"""The public images in six parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mnist_lab.data import PARTS, leave_out, load_dataset, part_split
from mnist_lab.data.dataset import make_split
from mnist_lab.data.parts import part_rows
from mnist_lab.data.splits import image_digests


def test_every_public_image_is_in_one_part(small_dataset):
    parts = [leave_out(small_dataset, part).validation for part in range(PARTS)]
    found = [each for part in parts for each in image_digests(part.images)]
    public = np.concatenate([small_dataset.train.images, small_dataset.validation.images])
    assert sorted(found) == sorted(image_digests(public))
    assert [len(part) for part in parts] == [120] * 6


@pytest.mark.parametrize("part", range(PARTS))
def test_a_part_is_left_out_of_training(small_dataset, part):
    divided = leave_out(small_dataset, part)
    trained = set(image_digests(divided.train.images))
    assert not trained & set(image_digests(divided.validation.images))
    assert len(divided.train) + len(divided.validation) == 720
    np.testing.assert_array_equal(part_split(small_dataset, part).labels, divided.validation.labels)


def test_the_last_part_is_the_validation_part(small_dataset):
    assert leave_out(small_dataset, PARTS - 1) is small_dataset


def test_parts_of_mnist_are_equal_and_have_a_fifth_of_every_class():
    training = load_dataset("mnist").train
    counts = np.bincount(training.labels)
    for part in range(5):
        rows = part_rows(training, part)
        assert len(rows) == 10_000
        assert np.abs(np.bincount(training.labels[rows]) - counts / 5).max() <= 1


def test_a_file_in_another_order_has_the_same_parts(small_dataset):
    training = small_dataset.train
    order = np.argsort(training.labels, kind="stable")
    by_class = make_split(training.images[order], training.labels[order])
    for part in range(5):
        first, second = (
            set(image_digests(split.images[part_rows(split, part)]))
            for split in (training, by_class)
        )
        assert first == second


def test_copies_of_an_image_are_in_one_part(small_dataset):
    training = small_dataset.train
    twice = make_split(np.repeat(training.images, 2, axis=0), np.repeat(training.labels, 2))
    for part in range(5):
        rows = part_rows(twice, part)
        assert set(rows[rows % 2 == 0] + 1) == set(rows[rows % 2 == 1])
    assert len(leave_out(replace(small_dataset, train=twice), 0).validation) == 240
