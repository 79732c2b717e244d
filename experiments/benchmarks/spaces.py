"""The search spaces that every arm searches, and the points that every engine trains.

mnist-lab sweep --space-file experiments/benchmarks/spaces.py:fnn --trials 4 --epochs 2
"""

from __future__ import annotations

import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from mnist_lab.spaces import SearchSpace, get_space, search_space

TRAINING = {
    "learning_rate": FloatDistribution(1e-4, 3e-2, log=True),
    "batch_size": IntDistribution(64, 512, log=True),
}
TRAINING_DEFAULTS = {"learning_rate": 1e-3, "batch_size": 128}


@search_space(
    name="bench-fnn",
    version=1,
    description="two dense layers, plain Keras",
    distributions={
        "units_1": IntDistribution(64, 1024, log=True),
        "units_2": IntDistribution(32, 256, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        **TRAINING,
    },
    defaults={"units_1": 256, "units_2": 128, "dropout": 0.2, **TRAINING_DEFAULTS},
)
def fnn(params, input_shape, classes):
    """Takes ``(N, 28, 28) uint8`` pixels, returns ``(N, classes) float32`` probabilities."""
    from keras import layers

    return _compiled(
        [
            *_pixels(input_shape),
            layers.Flatten(),
            layers.Dense(params["units_1"], activation="relu"),
            layers.Dropout(params["dropout"]),
            layers.Dense(params["units_2"], activation="relu"),
            layers.Dropout(params["dropout"]),
            layers.Dense(classes, activation="softmax"),
        ],
        params,
    )


@search_space(
    name="bench-cnn",
    version=1,
    description="one convolution and one dense layer, plain Keras",
    distributions={
        "filters": IntDistribution(8, 64, log=True),
        "conv_dropout": FloatDistribution(0.0, 0.6),
        "dense_units": IntDistribution(32, 256, log=True),
        **TRAINING,
    },
    defaults={"filters": 32, "conv_dropout": 0.3, "dense_units": 128, **TRAINING_DEFAULTS},
)
def cnn(params, input_shape, classes):
    """Takes ``(N, 28, 28) uint8`` pixels, returns ``(N, classes) float32`` probabilities."""
    from keras import layers

    return _compiled(
        [
            *_pixels(input_shape),
            layers.Reshape((*input_shape, 1)),
            layers.Conv2D(params["filters"], 3),
            layers.MaxPooling2D(),
            # After the pooling: the same function at a quarter of the work, and every arm has it.
            layers.ReLU(),
            layers.Dropout(params["conv_dropout"]),
            layers.Flatten(),
            layers.Dense(params["dense_units"], activation="relu"),
            layers.Dense(classes, activation="softmax"),
        ],
        params,
    )


PLAIN = {"fnn": fnn, "cnn": cnn}
# What ``mnist-lab sweep`` searches unless it is told otherwise: deeper networks, and a recipe.
PRODUCT = ("fnn-v2", "cnn-v2")
FAMILIES = (*PLAIN, *PRODUCT)


def find(family: str) -> SearchSpace:
    """The space of one of ``FAMILIES``."""
    return PLAIN[family] if family in PLAIN else get_space(family)


def _pixels(input_shape):
    import keras

    return keras.Input(input_shape, dtype="uint8"), keras.layers.Rescaling(1 / 255)


def _compiled(layers, params):
    import keras

    model = keras.Sequential(layers)
    model.compile(
        optimizer=keras.optimizers.Adam(params["learning_rate"]),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def fixed_configs(space: SearchSpace, n: int, seed: int = 0) -> list[dict[str, int | float]]:
    """``n`` points of ``space``, the same ones in every process that asks with one ``seed``."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask(dict(space.distributions)).params for _ in range(n)]
