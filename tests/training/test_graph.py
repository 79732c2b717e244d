"""The engine that trains an epoch as one graph, held against Keras's own ``fit``."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from mnist_lab.spaces import get_space
from mnist_lab.training.engines import make_engine
from mnist_lab.training.fit import FitEngine
from mnist_lab.training.graph import GraphEngine
from mnist_lab.training.kernels import use_fast_kernels

BATCH = 70  # 600 images: the last batch is not full


@pytest.fixture(autouse=True)
def clear(monkeypatch):
    monkeypatch.setenv("MNIST_LAB_PRECISION", "float32")  # as Keras, to whom all is compared
    yield
    keras.utils.clear_session()


def arrays(split):
    return split.images, keras.utils.to_categorical(split.labels, 10)


def build(space, **changes):
    keras.utils.set_random_seed(3)
    found = get_space(space)
    return found.build(found.point(changes), (28, 28), 10)


def trained(engine, model, dataset):
    """Metrics after two epochs."""
    runner = engine(model, arrays(dataset.validation), batch_size=BATCH)
    runner.train(*arrays(dataset.train))
    return {
        **runner.train(*arrays(dataset.train)),
        **{f"val_{name}": value for name, value in runner.validate().items()},
    }


@pytest.mark.only_by_default("fnn-changes0", "cnn-changes4")
@pytest.mark.parametrize(
    ("space", "changes"),
    [
        ("fnn", {"units_1": 32, "units_2": 32}),
        ("fnn", {"units_1": 32, "units_2": 32, "optimizer": "adamw", "weight_decay": 0.05}),
        ("fnn", {"units_1": 32, "units_2": 32, "batch_normalization": True}),
        ("fnn-v1", {"units_1": 32, "units_2": 32, "optimizer": "sgd", "momentum": 0.8}),
        ("cnn", {"filters_1": 8, "dense_units": 32, "conv_dropout": 0.0}),
        (
            "cnn",
            {
                "filters_1": 8,
                "dense_units": 32,
                "conv_dropout": 0.0,
                "blocks": 2,
                "filters_2": 8,
                "kernel_size": 5,
            },
        ),
    ],
)
def test_an_epoch_in_one_graph_is_what_fit_does(small_dataset, space, changes):
    ours = trained(GraphEngine, build(space, **changes), small_dataset)
    theirs = trained(FitEngine, build(space, **changes), small_dataset)
    for name, value in theirs.items():
        # Rounding may carry two of the 120 validation images over the line.
        bound = {"abs": 0.02} if "accuracy" in name else {"rel": 2e-3}
        assert ours[name] == pytest.approx(value, **bound), name


@pytest.mark.only_by_default("{}-size0-valid", "{}-size1-same")
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size", [(3, 3), (2, 5), (4, 4)])
@pytest.mark.parametrize("options", [{}, {"use_bias": False, "activation": "tanh"}], ids=str)
def test_a_convolution_by_patches_and_its_gradients_are_keras_own(padding, size, options):
    import tensorflow as tf

    images = tf.random.stateless_normal((4, 28, 28, 1), (1, 2))

    def gradients(*, quick):
        keras.utils.set_random_seed(1)
        layer = keras.layers.Conv2D(6, size, padding=padding, **options)
        inputs = keras.Input((28, 28, 1))
        model = keras.Model(inputs, layer(inputs))
        model.compile(optimizer="adam", loss="mse")
        if quick:
            use_fast_kernels(model)
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(tf.sin(model(images)))
        return tape.gradient(loss, [images, *(each.value for each in layer.weights)])

    for ours, theirs in zip(gradients(quick=True), gradients(quick=False), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.only_by_default("{}-maps")
@pytest.mark.parametrize("shape", [(7, 7, 6), (20,)], ids=["maps", "vectors"])
@pytest.mark.parametrize("options", [{}, {"scale": False, "center": False}], ids=str)
def test_batch_normalization_in_one_kernel_is_keras_own(shape, options):
    import tensorflow as tf

    images = tf.random.stateless_normal((13, *shape), (1, 2), mean=3.0, stddev=2.0)

    def results(*, quick):
        layer = keras.layers.BatchNormalization(momentum=0.7, **options)
        inputs = keras.Input(shape)
        model = keras.Model(inputs, layer(inputs))
        model.compile(optimizer="adam", loss="mse")
        if quick:
            use_fast_kernels(model)
        variables = [each.value for each in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model(images, training=True)
            loss = tf.reduce_sum(tf.sin(outputs))
        later = model(images, training=False)
        moving = [each.numpy() for each in layer.non_trainable_variables]
        return [outputs, later, *moving, *tape.gradient(loss, [images, *variables])]

    for ours, theirs in zip(results(quick=True), results(quick=False), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.BatchNormalization(axis=1),
        lambda: keras.layers.BatchNormalization(renorm=True),
        lambda: keras.layers.BatchNormalization(dtype="float64"),
        lambda: keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16"),
        lambda: keras.layers.Conv2D(4, 3, strides=2),
        lambda: keras.layers.Conv2D(4, 9),
        lambda: keras.layers.Dropout(0.9),
    ],
)
def test_what_the_faster_kernels_cannot_do_stays_keras_own(layer):
    inputs, layer = keras.Input((12, 12, 1)), layer()
    model = keras.Model(inputs, layer(inputs))
    model.compile(optimizer="adam", loss="mse")
    use_fast_kernels(model)
    assert "call" not in vars(layer)


@pytest.mark.only_by_default("0.5")
@pytest.mark.parametrize("rate", [0.101, 0.5, 0.73])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    layer = keras.layers.Dropout(rate, seed=5)
    inputs = keras.Input((1001,))
    model = keras.Model(inputs, layer(inputs))
    model.compile(optimizer="adam", loss="mse")
    use_fast_kernels(model)
    ones = np.ones((100, 1001), np.float32)
    dropped = np.stack([model(ones, training=True) for _ in range(300)])
    # 30 million draws, and 300 of the limit: a limit that is always the nearest would be 0.001 off.
    assert (dropped == 0).mean() == pytest.approx(rate, abs=0.0005)
    assert dropped.mean() == pytest.approx(1.0, abs=0.002)
    assert not np.array_equal(dropped[0], dropped[1])
    assert np.array_equal(np.asarray(model(ones, training=False)), ones)


def test_a_quickened_model_is_saved_as_plain_keras(small_dataset, tmp_path):
    model = build("cnn", filters_1=8, dense_units=32)
    trained(GraphEngine, model, small_dataset)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert {type(layer).__module__.split(".")[0] for layer in again.layers} == {"keras"}
    images = small_dataset.validation.images
    assert again.predict(images, verbose=0) == pytest.approx(
        model.predict(images, verbose=0), abs=1e-6
    )


def test_a_model_that_runs_eagerly_is_trained_by_fit(small_dataset):
    model = build("fnn", units_1=32, units_2=32)
    model.run_eagerly = True
    engine = make_engine(model, arrays(small_dataset.validation), batch_size=300)
    assert isinstance(engine, FitEngine)
    assert set(engine.train(*arrays(small_dataset.train))) == {"loss", "accuracy"}


def test_adam_with_amsgrad_is_left_to_keras():
    model = build("fnn", units_1=32, units_2=32)
    model.compile(optimizer=keras.optimizers.Adam(amsgrad=True), loss="mse")
    use_fast_kernels(model)
    assert "update_step" not in vars(model.optimizer)


def test_what_keras_would_compile_with_xla_on_a_gpu_is_not(small_dataset):
    model = build("fnn", units_1=32, units_2=32)
    model.jit_compile = True  # as Keras decides where it sees a GPU
    make_engine(model, arrays(small_dataset.validation), batch_size=BATCH)
    assert not model.jit_compile
