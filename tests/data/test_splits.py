"""How training images are divided."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_lab.data import load_dataset
from mnist_lab.data.arrays import Unusable
from mnist_lab.data.load import locate
from mnist_lab.data.splits import Labelled, divide, image_digests
from mnist_lab.errors import DataError


@pytest.fixture(scope="module")
def part():
    with np.load(locate("mnist")) as whole:
        return Labelled(images=whole["x_train"][:1200], labels=whole["y_train"][:1200])


def shares(labels):
    return np.bincount(labels, minlength=10) / len(labels)


def test_a_file_sorted_by_class_validates_on_every_class(part, tmp_path):
    order = np.argsort(part.labels, kind="stable")
    np.savez(
        tmp_path / "sorted.npz",
        x_train=part.images[order], y_train=part.labels[order],
        x_test=part.images[:60] // 2, y_test=part.labels[:60],
    )  # fmt: skip
    found = load_dataset(str(tmp_path / "sorted.npz"))
    assert np.abs(shares(found.validation.labels) - shares(found.train.labels)).max() < 0.01
    assert "1/6 of each class validates" in found.facts.sentence


def test_a_shuffled_file_keeps_its_last_sixth(part):
    parts = divide({"train": part, "test": part.take(slice(60))}, 10, shuffled=True)
    assert np.array_equal(parts.validation.images, part.images[1000:])


def test_the_order_of_the_files_does_not_matter(part):
    turned = part.take(slice(None, None, -1))
    one, other = (divide({"train": each}, 10, shuffled=False) for each in (part, turned))
    for name in ("train", "validation", "test"):
        assert sorted(image_digests(getattr(one, name).images)) == sorted(
            image_digests(getattr(other, name).images)
        )


def test_copies_of_an_image_fall_in_one_part(part):
    doubled = part.take(np.repeat(np.arange(1200), 2))
    parts = divide({"train": doubled}, 10, shuffled=False)
    digests = [
        set(image_digests(getattr(parts, n).images)) for n in ("train", "validation", "test")
    ]
    assert not digests[0] & digests[1] | digests[0] & digests[2] | digests[1] & digests[2]


def test_the_parts_are_sixths_of_what_there_is(part):
    parts = divide({"train": part}, 10, shuffled=False)
    assert len(parts.test.labels) == pytest.approx(200, abs=10)
    assert len(parts.validation.labels) == pytest.approx(167, abs=10)
    assert parts.rules[-1] == "no test images: 1/6 sealed"


def test_a_class_with_one_image_is_refused(part):
    labels = part.labels.copy()
    labels[0] = 10
    with pytest.raises(Unusable, match="too few different images"):
        divide({"train": Labelled(images=part.images, labels=labels)}, 11, shuffled=False)


def test_copies_between_the_parts_of_a_layout_are_counted_and_refused(part, tmp_path):
    path = tmp_path / "copies.npz"
    np.savez(
        path, x_train=part.images, y_train=part.labels,
        x_test=part.images[:60], y_test=part.labels[:60],
    )  # fmt: skip
    with pytest.raises(DataError, match=r"60 of 260 images of validation and test.*--most-dup"):
        load_dataset(str(path))
    found = load_dataset(str(path), most_duplicates=0.3)
    assert found.facts.duplicates == 60
    assert "60 copies of images of another part" in found.facts.sentence


def test_a_class_that_is_only_in_the_test_part_is_found_at_once(part, tmp_path):
    path = tmp_path / "lacking.npz"
    np.savez(
        path, x_train=part.images[part.labels > 0], y_train=part.labels[part.labels > 0],
        x_test=part.images[:60] // 2, y_test=part.labels[:60],
    )  # fmt: skip
    with pytest.raises(DataError, match="no training images of 0"):
        load_dataset(str(path))


def test_every_image_of_a_part_is_found_again_in_its_source(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (600, 8, 8), np.uint8)
    np.savez(tmp_path / "own.npz", x_train=images, y_train=np.arange(600) % 3)
    validation = load_dataset(str(tmp_path / "own.npz"), data_folder=tmp_path).validation
    rows = [int(place.removeprefix("train[").removesuffix("]")) for place in validation.places]
    assert np.array_equal(images[rows], validation.images)
