"""The shipped spaces for images of other shapes than MNIST's."""

from __future__ import annotations

import keras
import pytest

from mnist_lab.spaces import corners, get_space

SHAPES = [(4, 4), (8, 8), (16, 16, 3), (32, 32, 3), (64, 48), (224, 224, 3)]


@pytest.mark.only_by_default("cnn-v2-shape1", "cnn-v3-shape3", "fnn-v2-shape5")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["fnn-v1", "fnn-v2", "cnn-v1", "cnn-v2", "cnn-v3"])
def test_every_corner_builds_for_every_shape(name, shape):
    space = get_space(name).shaped(shape)
    for point in corners(space):
        model = space.build(point, shape, 5)
        assert model.output_shape == (None, 5)
        assert model.count_params() < 20_000_000
        keras.utils.clear_session(free_memory=False)


def test_mnists_shape_changes_no_space():
    for name in ("fnn-v2", "cnn-v1", "cnn-v2"):
        assert get_space(name).shaped((28, 28)) is get_space(name)


def test_small_images_have_fewer_blocks_and_starts_that_fit():
    space = get_space("cnn").shaped((8, 8))
    assert space.distributions["blocks"].high == 2
    assert "filters_3" not in space.distributions
    assert space.digest != get_space("cnn").digest
    assert all(start["blocks"] <= 2 for start in space.starts)


def test_a_name_means_its_colour_version_for_colour_images_only():
    assert get_space("cnn", colour=True).id == "cnn-v3"
    assert get_space("cnn").id == "cnn-v2"
    assert get_space("fnn", colour=True).id == "fnn-v2"
    assert get_space("cnn-v2", colour=True).id == "cnn-v2"
