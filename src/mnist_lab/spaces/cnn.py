"""The convolutional family. Its baseline is the notebook's: one block of 64, 1,386,506 parameters."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lab.spaces.layers import (
    RECIPE,
    RECIPE_CONDITIONS,
    RECIPE_DEFAULTS,
    TRAINING,
    TRAINING_CONDITIONS,
    TRAINING_DEFAULTS,
    classifier,
    dense_block,
    normalised_input,
    number,
    shrink,
    shrinking,
)
from mnist_lab.spaces.space import Condition, Distributions, search_space
from mnist_lab.spaces.values import Params

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor

# f(max(x)) = max(f(x)) for these: pooling first is the same function at a quarter of the work.
_MONOTONE = ("relu", "elu", "tanh")


_SHAPE: Distributions = MappingProxyType(
    {
        "blocks": IntDistribution(1, 3),
        "filters_1": IntDistribution(8, 64, log=True),
        "filters_2": IntDistribution(8, 64, log=True),
        "filters_3": IntDistribution(8, 64, log=True),
        "kernel_size": CategoricalDistribution((3, 5)),
        "pooling": CategoricalDistribution(("max", "average")),
        "conv_dropout": FloatDistribution(0.0, 0.6),
        "dense_units": IntDistribution(32, 256, log=True),
        "dense_dropout": FloatDistribution(0.0, 0.6),
    }
)
_SHAPE_DEFAULTS: Params = MappingProxyType(
    {
        "blocks": 1,
        "filters_1": 64,
        "filters_2": 64,
        "filters_3": 64,
        "kernel_size": 3,
        "pooling": "max",
        "conv_dropout": 0.5,
        "dense_units": 128,
        "dense_dropout": 0.0,
    }
)
_SHAPE_CONDITIONS = MappingProxyType(
    {
        "filters_2": (Condition(parent="blocks", values=(2, 3)),),
        "filters_3": (Condition(parent="blocks", values=(3,)),),
    }
)


def _no_collapse(input_shape: tuple[int, ...]) -> Distributions:
    """Return the counts of blocks that leave a pixel of these images, where that is fewer than 3.

    The first convolution is ``valid``, and each block halves what is left.
    """
    side = min(input_shape[:2]) // shrinking(input_shape)
    sizes = [(side - kernel + 1) // 2 for kernel in (3, 5)]
    most = min(size.bit_length() for size in sizes)
    if most >= _SHAPE["blocks"].high:  # type: ignore[attr-defined]
        return {}
    kernels = CategoricalDistribution((3,)) if sizes[1] < 1 else _SHAPE["kernel_size"]
    most = most if sizes[1] >= 1 else sizes[0].bit_length()
    return {"blocks": IntDistribution(1, max(1, most)), "kernel_size": kernels}


@search_space(
    name="cnn",
    version=1,
    description="convolutional network: 1 to 3 blocks of convolution and pooling, one dense layer",
    distributions={**_SHAPE, **TRAINING},
    defaults={**TRAINING_DEFAULTS, **_SHAPE_DEFAULTS},
    conditions={**_SHAPE_CONDITIONS, **TRAINING_CONDITIONS},
    limits=_no_collapse,
    baseline_size=1_386_506,
)
def cnn_v1(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Build blocks of convolution, pooling and dropout, then one dense block.

    The first convolution is ``valid``, as the notebook's; later ones are ``same``, so that three
    blocks of 5x5 kernels still leave 3x3 pixels (28 -> 24 -> 12 -> 6 -> 3).
    """
    return _build(params, input_shape, classes)


@search_space(
    name="cnn",
    version=2,
    description="as cnn-v1, with one-cycle learning rate and shifted images",
    distributions={**_SHAPE, **RECIPE},
    defaults={**RECIPE_DEFAULTS, **_SHAPE_DEFAULTS},
    conditions={**_SHAPE_CONDITIONS, **RECIPE_CONDITIONS},
    limits=_no_collapse,
    baseline_size=1_386_506,
    starts=(
        {
            "blocks": 2,
            "filters_1": 32,
            "filters_2": 64,
            "kernel_size": 5,
            "conv_dropout": 0.2,
            "dense_dropout": 0.3,
            "normalisation": "standardize",
            "batch_normalization": True,
            "kernel_initializer": "he_normal",
            "learning_rate": 3e-3,
            "batch_size": 128,
            "schedule": "one_cycle",
            "shift": 2,
        },
    ),
)
def cnn_v2(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Build a model as ``cnn_v1``; the trainer applies schedule and shifts."""
    return _build(params, input_shape, classes)


_COLOUR: Distributions = MappingProxyType(
    {
        "blocks": IntDistribution(2, 4),
        "convolutions": IntDistribution(1, 2),
        "filters": IntDistribution(16, 96, log=True),
        "head": CategoricalDistribution(("global_average", "flatten")),
        "conv_dropout": FloatDistribution(0.0, 0.5),
        "dense_units": IntDistribution(32, 256, log=True),
        "dense_dropout": FloatDistribution(0.0, 0.6),
        "flip": CategoricalDistribution((False, True)),
    }
)
_COLOUR_DEFAULTS: Params = MappingProxyType(
    {
        "blocks": 3,
        "convolutions": 1,
        "filters": 32,
        "head": "global_average",
        "conv_dropout": 0.1,
        "dense_units": 128,
        "dense_dropout": 0.2,
        "flip": False,
        "normalisation": "standardize",
        "batch_normalization": True,
        "kernel_initializer": "he_normal",
    }
)


def _colour_blocks(input_shape: tuple[int, ...]) -> Distributions:
    """Return the counts of blocks that leave a pixel: each halves the picture."""
    most = (min(input_shape[:2]) // shrinking(input_shape)).bit_length() - 1
    return {"blocks": IntDistribution(2, max(2, most))} if most < 4 else {}


@search_space(
    name="cnn",
    version=3,
    description="for colour pictures: same-size convolutions, global pooling, shifted and flipped",
    distributions={**_COLOUR, **{k: v for k, v in RECIPE.items() if k != "normalisation"},
                   "normalisation": CategoricalDistribution(("scale", "standardize"))},
    defaults={**RECIPE_DEFAULTS, **_COLOUR_DEFAULTS},
    conditions=RECIPE_CONDITIONS,
    limits=_colour_blocks,
    for_colour=True,
    starts=(
        {
            "filters": 48,
            "learning_rate": 3e-3,
            "batch_size": 64,
            "schedule": "one_cycle",
            "shift": 2,
            "flip": True,
        },
    ),
)  # fmt: skip
def cnn_v3(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Build blocks that halve the picture and double the filters, then one dense block.

    The trainer applies schedule, shifts and flips.
    """
    import keras

    pixels, x = normalised_input(params, input_shape)
    x = _as_maps(x, input_shape)
    filters = int(number(params, "filters"))
    for block in range(int(number(params, "blocks"))):
        for _ in range(int(number(params, "convolutions"))):
            x = _convolution(params, filters * min(2**block, 4), "same", 3, x)
            x = keras.layers.Activation(str(params["activation"]))(x)
        x = keras.layers.MaxPooling2D(2)(x)
        dropout = number(params, "conv_dropout")
        x = keras.layers.Dropout(dropout)(x) if dropout else x
    is_global = params["head"] == "global_average"
    x = (keras.layers.GlobalAveragePooling2D() if is_global else keras.layers.Flatten())(x)
    units = int(number(params, "dense_units"))
    x = dense_block(params, units, number(params, "dense_dropout"), x)
    return classifier(params, pixels, x, classes, name="cnn")


def _as_maps(x: KerasTensor, input_shape: tuple[int, ...]) -> KerasTensor:
    """Return ``(N, H, W, channels)``, averaged over areas if the picture is a large one."""
    import keras

    if len(input_shape) == 2:
        x = keras.layers.Reshape((*input_shape, 1))(x)
    return shrink(x, input_shape)


def _convolution(
    params: Params, filters: int, padding: str, size: int, x: KerasTensor
) -> KerasTensor:
    """Apply a convolution, and batch normalisation if ``params`` ask for it; no activation."""
    import keras

    normalise = bool(params["batch_normalization"])
    x = keras.layers.Conv2D(
        filters,
        size,
        padding=padding,
        kernel_initializer=str(params["kernel_initializer"]),
        use_bias=not normalise,
    )(x)
    return keras.layers.BatchNormalization()(x) if normalise else x


def _build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    import keras

    pixels, x = normalised_input(params, input_shape)
    x = _as_maps(x, input_shape)
    for block in range(1, int(number(params, "blocks")) + 1):
        filters = int(number(params, f"filters_{block}"))
        x = _conv_block(params, filters, "valid" if block == 1 else "same", x)
    x = keras.layers.Flatten()(x)
    units = int(number(params, "dense_units"))
    x = dense_block(params, units, number(params, "dense_dropout"), x)
    return classifier(params, pixels, x, classes, name="cnn")


def _conv_block(params: Params, filters: int, padding: str, x: KerasTensor) -> KerasTensor:
    import keras

    activation = keras.layers.Activation(str(params["activation"]))
    average = params["pooling"] == "average"
    pool = keras.layers.AveragePooling2D(2) if average else keras.layers.MaxPooling2D(2)
    pool_first = not average and params["activation"] in _MONOTONE

    x = _convolution(params, filters, padding, int(number(params, "kernel_size")), x)
    x = activation(pool(x)) if pool_first else pool(activation(x))
    dropout = number(params, "conv_dropout")
    return keras.layers.Dropout(dropout)(x) if dropout else x
