"""The parameters and Keras objects that the FNN and the CNN share.

Nothing here imports Keras before a model is built.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lab.spaces.space import Condition, Distributions
from mnist_lab.spaces.values import Params

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor

# Ranges: learning rates below 1e-4 do not finish in ten epochs and above 3e-2 Adam diverges on both
# families; batches above 512 take too few steps. The notebook's values lie inside every range.
TRAINING: Distributions = MappingProxyType(
    {
        "normalisation": CategoricalDistribution(("scale", "standardize", "l2_rows")),
        "activation": CategoricalDistribution(("relu", "elu", "gelu", "silu", "tanh")),
        "batch_normalization": CategoricalDistribution((False, True)),
        "kernel_initializer": CategoricalDistribution(
            ("random_normal", "glorot_uniform", "he_normal")
        ),
        "optimizer": CategoricalDistribution(("adam", "adamw", "sgd", "rmsprop")),
        "learning_rate": FloatDistribution(1e-4, 3e-2, log=True),
        "weight_decay": FloatDistribution(1e-5, 1e-1, log=True),
        "momentum": FloatDistribution(0.5, 0.99),
        "batch_size": IntDistribution(32, 512, log=True),
        "label_smoothing": FloatDistribution(0.0, 0.2),
    }
)
TRAINING_DEFAULTS: Params = MappingProxyType(
    {
        "normalisation": "l2_rows",
        "activation": "relu",
        "batch_normalization": False,
        "kernel_initializer": "glorot_uniform",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 4e-3,  # Keras's own default for AdamW
        "momentum": 0.9,
        "batch_size": 100,
        "label_smoothing": 0.0,
    }
)
# Small nets learn fast with these (experiments/LOG.md): one cycle of the learning rate, shifted
# images. Activations, optimizers and learning rates that lost in searches of version 1 are left out.
RECIPE: Distributions = MappingProxyType(
    {
        **{name: each for name, each in TRAINING.items() if name != "momentum"},
        "activation": CategoricalDistribution(("relu", "gelu", "silu")),
        "optimizer": CategoricalDistribution(("adam", "adamw")),
        "learning_rate": FloatDistribution(3e-4, 2e-2, log=True),
        "schedule": CategoricalDistribution(("constant", "one_cycle")),
        "shift": IntDistribution(0, 3),
    }
)
RECIPE_DEFAULTS: Params = MappingProxyType(
    {
        **{name: each for name, each in TRAINING_DEFAULTS.items() if name != "momentum"},
        "schedule": "constant",
        "shift": 0,
    }
)
TRAINING_CONDITIONS = MappingProxyType(
    {
        "weight_decay": (Condition(parent="optimizer", values=("adamw",)),),
        "momentum": (Condition(parent="optimizer", values=("sgd",)),),
    }
)
RECIPE_CONDITIONS = MappingProxyType({"weight_decay": TRAINING_CONDITIONS["weight_decay"]})


# Grey 28x28 images need no more; a larger picture is first made smaller by the mean over areas.
MOST_PIXELS_A_SIDE = 48


def shrinking(input_shape: tuple[int, ...]) -> int:
    """Return the side of the areas that a picture is averaged over; 1 up to ``MOST_PIXELS_A_SIDE``.

    So a model for 224x224x3 has no more parameters than one for 48x48x3.
    """
    return -(-max(input_shape[:2]) // MOST_PIXELS_A_SIDE)


def shrink(x: KerasTensor, input_shape: tuple[int, ...]) -> KerasTensor:
    """Average ``(N, H, W, channels)`` over areas, if the picture is a large one."""
    import keras

    side = shrinking(input_shape)
    return keras.layers.AveragePooling2D(side, name="shrink")(x) if side > 1 else x


def number(params: Params, name: str) -> float:
    """Return a parameter whose declaration says that it is numeric."""
    return cast(float, params[name])


def normalised_input(
    params: Params, input_shape: tuple[int, ...]
) -> tuple[KerasTensor, KerasTensor]:
    """Return the input, raw pixels ``(N, *input_shape) uint8``, and it normalised to ``float32``.

    ``scale`` divides by 255; ``standardize`` subtracts the training images' mean and divides by
    their deviation (the trainer adapts the layer); ``l2_rows`` is the notebook's
    ``normalize(x, axis=1)``, each column of pixels at unit length.
    """
    import keras

    pixels = keras.Input(input_shape, dtype="uint8", name="pixels")
    kind = params["normalisation"]
    if kind == "standardize":
        return pixels, keras.layers.Normalization(axis=None, name="standardize")(pixels)
    scaled = keras.layers.Rescaling(1 / 255, name="scale")(pixels)
    if kind == "l2_rows":
        scaled = keras.layers.UnitNormalization(axis=1, name="l2_rows")(scaled)
    return pixels, scaled


def dense_block(params: Params, units: int, dropout: float, x: KerasTensor) -> KerasTensor:
    """Apply dense, batch normalisation, activation and dropout layers, as ``params`` ask for them."""
    import keras

    normalise = bool(params["batch_normalization"])
    x = keras.layers.Dense(
        units, kernel_initializer=str(params["kernel_initializer"]), use_bias=not normalise
    )(x)
    if normalise:
        x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation(str(params["activation"]))(x)
    return keras.layers.Dropout(dropout)(x) if dropout else x


def classifier(
    params: Params, pixels: KerasTensor, features: KerasTensor, classes: int, name: str
) -> keras.Model:
    """Close the model with a softmax over ``classes`` and compile it."""
    import keras

    probabilities = keras.layers.Dense(
        classes,
        activation="softmax",
        kernel_initializer=str(params["kernel_initializer"]),
        name="probabilities",
    )(features)
    model = keras.Model(pixels, probabilities, name=name)
    model.compile(
        optimizer=_optimizer(params),
        loss=keras.losses.CategoricalCrossentropy(
            label_smoothing=number(params, "label_smoothing")
        ),
        metrics=["accuracy"],
    )
    return model


def _optimizer(params: Params) -> keras.optimizers.Optimizer:
    import keras

    kind, rate = params["optimizer"], number(params, "learning_rate")
    if kind == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=number(params, "weight_decay"))
    if kind == "sgd":
        return keras.optimizers.SGD(rate, momentum=number(params, "momentum"), nesterov=True)
    if kind == "rmsprop":
        return keras.optimizers.RMSprop(rate)
    return keras.optimizers.Adam(rate)
