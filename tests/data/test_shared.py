"""Workers see the data that were checked, without a copy of their own."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from mnist_lab.data import map_dataset, shared
from mnist_lab.data.shared import _save
from mnist_lab.errors import is_disk_full


@pytest.fixture
def mapped(small_dataset, tmp_path):
    with shared(small_dataset, tmp_path / "data") as folder:
        yield map_dataset(folder)


def test_a_mapped_data_set_equals_the_one_that_was_shared(mapped, small_dataset):
    for part in ("train", "validation"):
        given, found = getattr(small_dataset, part), getattr(mapped, part)
        np.testing.assert_array_equal(found.images, given.images)
        np.testing.assert_array_equal(found.labels, given.labels)
    assert (mapped.name, mapped.source) == (small_dataset.name, small_dataset.source)
    assert mapped.digest == small_dataset.digest


def test_mapped_pixels_are_pages_of_the_file_and_cannot_be_written(mapped):
    base = mapped.train.images
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)
    with pytest.raises(ValueError, match="read-only"):
        mapped.train.images[0] = 0


def test_what_a_killed_process_left_is_replaced_and_nothing_stays(small_dataset, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train-images.npy").write_text("half of a")
    with shared(small_dataset, folder):
        assert map_dataset(folder).digest == small_dataset.digest
    assert not folder.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
def test_a_disk_that_is_full_is_known_by_its_error(small_dataset):
    with pytest.raises(OSError, match="No space left") as caught:
        _save(Path("/dev/full"), small_dataset.train.images)
    assert is_disk_full(caught.value)
