"""The feedforward family. Its baseline is the notebook's: 784 and 128 units, 717,210 parameters."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from optuna.distributions import FloatDistribution, IntDistribution

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


_SHAPE: Distributions = MappingProxyType(
    {
        "hidden_layers": IntDistribution(1, 3),
        "units_1": IntDistribution(32, 1024, log=True),
        "units_2": IntDistribution(32, 512, log=True),
        "units_3": IntDistribution(32, 512, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
    }
)
_SHAPE_DEFAULTS: Params = MappingProxyType(
    {
        "hidden_layers": 2,
        "units_1": 784,
        "units_2": 128,
        "units_3": 128,
        "dropout": 0.0,
        "kernel_initializer": "random_normal",
    }
)
_SHAPE_CONDITIONS = MappingProxyType(
    {
        "units_2": (Condition(parent="hidden_layers", values=(2, 3)),),
        "units_3": (Condition(parent="hidden_layers", values=(3,)),),
    }
)


@search_space(
    name="fnn",
    version=1,
    description="feedforward network: 1 to 3 dense layers",
    distributions={**_SHAPE, **TRAINING},
    defaults={**TRAINING_DEFAULTS, **_SHAPE_DEFAULTS},
    conditions={**_SHAPE_CONDITIONS, **TRAINING_CONDITIONS},
    baseline_size=717_210,
)
def fnn_v1(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Build a flattening layer, then dense blocks of ``units_1``, ``units_2``, ``units_3``."""
    return _build(params, input_shape, classes)


@search_space(
    name="fnn",
    version=2,
    description="as fnn-v1, with one-cycle learning rate and shifted images",
    distributions={**_SHAPE, **RECIPE},
    defaults={**RECIPE_DEFAULTS, **_SHAPE_DEFAULTS},
    conditions={**_SHAPE_CONDITIONS, **RECIPE_CONDITIONS},
    baseline_size=717_210,
    starts=(
        {
            "units_1": 1024,
            "units_2": 256,
            "dropout": 0.2,
            "normalisation": "standardize",
            "batch_normalization": True,
            "kernel_initializer": "he_normal",
            "learning_rate": 3e-3,
            "batch_size": 128,
            "schedule": "one_cycle",
            "shift": 1,
        },
    ),
)
def fnn_v2(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Build a model as ``fnn_v1``; the trainer applies schedule and shifts."""
    return _build(params, input_shape, classes)


def _build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    import keras

    pixels, x = normalised_input(params, input_shape)
    if shrinking(input_shape) > 1:
        x = shrink(keras.layers.Reshape((*input_shape[:2], -1))(x), input_shape)
    x = keras.layers.Flatten()(x)
    for layer in range(1, int(number(params, "hidden_layers")) + 1):
        units = int(number(params, f"units_{layer}"))
        x = dense_block(params, units, number(params, "dropout"), x)
    return classifier(params, pixels, x, classes, name="fnn")
