"""Kept predictions: small, and near enough to what the model said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_lab.evaluation import pack_predictions, read_predictions


def probabilities(spread, images=10_000, classes=10):
    scores = np.random.default_rng(0).normal(scale=spread, size=(images, classes))
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("spread", [12, 4, 2, 1, 0.1], ids="sure {}".format)
def test_ten_thousand_images_of_ten_classes_take_less_than_50_kb(spread):
    assert len(pack_predictions(probabilities(spread))) < 50_000


@given(spread=st.floats(0.1, 20), images=st.integers(1, 50), classes=st.integers(2, 70))
@settings(max_examples=50, deadline=None)
def test_what_is_read_is_what_the_model_said_to_within_a_step(
    tmp_path_factory, spread, images, classes
):
    given_ = probabilities(spread, images, classes)
    file = tmp_path_factory.mktemp("kept") / "predictions.npz"
    file.write_bytes(pack_predictions(given_))
    read = read_predictions(file)
    assert np.array_equal(read.classes, given_.argmax(axis=1))
    assert np.abs(read.probabilities - given_).max() <= 0.5 / 15 + 1e-6
    assert read.confidence == pytest.approx(given_.max(axis=1), abs=0.5 / 15 + 1e-6)
