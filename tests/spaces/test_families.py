"""The two families as Keras models."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution

from mnist_lab.data import load_dataset
from mnist_lab.errors import ConfigurationError
from mnist_lab.execution.check import check_space
from mnist_lab.spaces import get_space, list_spaces, search_space
from mnist_lab.spaces.corners import corners
from mnist_lab.spaces.layers import normalised_input

SPACES = [get_space(name) for name in ("fnn-v1", "fnn-v2", "cnn-v1", "cnn-v2")]


@pytest.fixture(autouse=True)
def clear():
    yield
    keras.utils.clear_session()


def draw(space, rng):
    def choose(_, distribution):
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[rng.integers(len(distribution.choices))]
        if isinstance(distribution, IntDistribution):
            return int(rng.integers(distribution.low, distribution.high, endpoint=True))
        return float(rng.uniform(distribution.low, distribution.high))

    return space.draw(choose)


def pixels(n=4):
    return np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize(("name", "parameters"), [("fnn", 717_210), ("cnn", 1_386_506)])
def test_the_baseline_is_the_notebooks_model(name, parameters):
    space = get_space(name)
    model = space.build(space.baseline, (28, 28), 10)
    assert model.count_params() == space.baseline_size == parameters
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert (space.baseline["batch_size"], space.baseline["normalisation"]) == (100, "l2_rows")


def test_the_fnn_baseline_draws_its_weights_as_the_notebook_does():
    space = get_space("fnn")
    layers = space.build(space.baseline, (28, 28), 10).layers
    dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.kernel_initializer.stddev for layer in dense] == [0.05] * 3


def test_the_cnn_baseline_has_the_notebooks_layers():
    space = get_space("cnn")
    model = space.build(space.baseline, (28, 28), 10)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert [kind for kind in kinds if kind in ("Conv2D", "MaxPooling2D", "Dropout", "Dense")] == [
        "Conv2D", "MaxPooling2D", "Dropout", "Dense", "Dense",
    ]  # fmt: skip
    dropout = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
    assert dropout.rate == 0.5


@pytest.mark.only_by_default("cnn-v2-12", "fnn-v2-12")
@pytest.mark.parametrize("points", [12, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("space", list_spaces().values(), ids=lambda space: space.id)
def test_random_points_build_and_survive_json(space, points):
    rng = np.random.default_rng(7)
    for _ in range(points):
        point = json.loads(json.dumps(draw(space, rng)))
        space.check(point)
        assert space.build(point, (28, 28), 10).output_shape == (None, 10)
        keras.utils.clear_session(free_memory=False)  # a garbage collection takes 0.2 s


@pytest.mark.only_by_default("cnn-v2", "fnn-v2")
@pytest.mark.parametrize("space", list_spaces().values(), ids=lambda space: space.id)
def test_every_corner_builds(space):
    report = check_space(space, load_dataset())
    assert report.builds > 2 * len(space.distributions)
    assert report.least <= report.baseline <= report.most


@pytest.mark.only_by_default("cnn-v2")
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.id)
def test_the_corners_visit_both_ends_of_every_parameter(space):
    points = list(corners(space))
    for name in space.distributions:
        assert len({point[name] for point in points if name in point}) >= 2, name


@pytest.mark.only_by_default("fnn-v2", "cnn-v2")
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.id)
def test_the_output_is_a_probability_for_every_class(space):
    model = space.build(space.baseline, (28, 28), 10)
    probabilities = model.predict(pixels(), verbose=0)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-5)


def normalise(kind, images):
    inputs, outputs = normalised_input({"normalisation": kind}, (28, 28))
    return keras.Model(inputs, outputs).predict(images, verbose=0)


def test_l2_rows_is_the_notebooks_normalisation():
    images = pixels()
    images[:, :, :3] = 0  # empty columns, which both must leave at zero
    expected = keras.utils.normalize(images.astype("float32"), axis=1)
    assert np.abs(normalise("l2_rows", images) - expected).max() < 2e-7


def test_scale_brings_pixels_into_zero_to_one():
    assert normalise("scale", pixels()) == pytest.approx(pixels() / 255, abs=1e-6)


@pytest.mark.only_by_default("relu")
@pytest.mark.parametrize("activation", ["relu", "elu", "tanh"])
def test_pooling_before_a_monotone_activation_is_the_same_function(activation):
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    pool, act = keras.layers.MaxPooling2D(2), keras.layers.Activation(activation)
    first = keras.ops.convert_to_numpy(act(pool(x)))
    last = keras.ops.convert_to_numpy(pool(act(x)))
    assert first == pytest.approx(last, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"optimizer": "adamw", "weight_decay": 0.01}, "AdamW"),
        ({"optimizer": "sgd", "momentum": 0.8}, "SGD"),
        ({"optimizer": "rmsprop"}, "RMSprop"),
    ],
)
def test_the_optimizer_is_the_one_asked_for(changes, kind):
    space = get_space("fnn-v1")
    model = space.build(space.point({**changes, "learning_rate": 0.002}), (28, 28), 10)
    assert type(model.optimizer).__name__ == kind
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    for name in set(changes) - {"optimizer"}:
        assert getattr(model.optimizer, name) == pytest.approx(changes[name])


def test_batch_normalisation_replaces_the_bias():
    space = get_space("cnn")
    model = space.build(space.point({"batch_normalization": True}), (28, 28), 10)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("BatchNormalization") == 2
    assert not any(
        layer.use_bias for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
    )


@pytest.mark.parametrize(
    ("third", "message"), [({"loss_weights": ["accuracy"]}, "cannot train"), ({}, "not loss and")]
)
def test_a_model_that_builds_but_is_compiled_wrongly_does_not_pass_the_check(
    third, message, monkeypatch
):
    def build(params, input_shape, classes):
        layers = [keras.Input(input_shape, dtype="uint8"), keras.layers.Rescaling(1 / 255)]
        head = [keras.layers.Flatten(), keras.layers.Dense(classes, activation="softmax")]
        model = keras.Sequential([*layers, *head])
        model.compile(optimizer="adam", loss="categorical_crossentropy", **third)
        return model

    space = search_space(name="x", version=1, description="", distributions={}, defaults={})(build)
    monkeypatch.setattr("mnist_lab.execution.check.load_space", lambda _: space)
    with pytest.raises(ConfigurationError, match=message):
        check_space(space, load_dataset())
