"""Building every corner of a space: what ``mnist-lab spaces NAME --check`` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mnist_lab.data import CLASSES, IMAGE_SHAPE
from mnist_lab.errors import ConfigurationError
from mnist_lab.spaces.registry import load_space
from mnist_lab.spaces.space import ParamValue, SearchSpace

if TYPE_CHECKING:
    import keras


def corners(space: SearchSpace) -> Iterator[dict[str, ParamValue]]:
    """The baseline, each parameter at each extreme (all else as in the baseline), all low, all high.

    A parameter with a condition is brought into use first, so every parameter is visited.
    """
    yield space.baseline
    for name, distribution in space.distributions.items():
        for value in extremes(distribution):
            yield space.draw(
                lambda other, _, name=name, value=value: (  # type: ignore[misc]
                    value
                    if other == name
                    else _enabling(space, name).get(other, space.defaults[other])
                )
            )
    yield space.draw(lambda _, distribution: extremes(distribution)[0])
    yield space.draw(lambda _, distribution: extremes(distribution)[-1])


def extremes(distribution: BaseDistribution) -> list[ParamValue]:
    """Every choice, or the lowest and the highest number."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def check_corners(space: SearchSpace) -> dict[str, int]:
    """Build every corner; return how many there are, and the least and most Keras parameters.

    Raises:
        ConfigurationError: a corner cannot be built, with its parameters.
    """
    import keras

    space = load_space(space.reference)  # with the constraints of a file, which are code
    counts: list[int] = []
    for point in corners(space):
        if space.broken_constraint(point):
            continue
        try:
            model = space.build(point, IMAGE_SHAPE, CLASSES)
        except Exception as error:
            raise ConfigurationError(
                f"{space.id} cannot build {point}: {type(error).__name__}: {error}"
            ) from error
        if model.output_shape != (None, CLASSES):
            raise ConfigurationError(f"{space.id} builds {model.output_shape} from {point}.")
        if not counts:
            _train_one_step(space, model)
        counts.append(int(model.count_params()))
        keras.utils.clear_session(free_memory=False)
    if space.baseline_size not in (None, counts[0]):
        raise ConfigurationError(
            f"{space.id} declares {space.baseline_size:,} baseline parameters; it has {counts[0]:,}."
        )
    return {
        "corners": len(counts),
        "baseline": counts[0],
        "least": min(counts),
        "most": max(counts),
    }


def _train_one_step(space: SearchSpace, model: keras.Model) -> None:
    """A model that builds may still be compiled wrongly: loss, metrics and labels meet here."""
    images = np.zeros((CLASSES, *IMAGE_SHAPE), np.uint8)
    try:
        logs = model.train_on_batch(images, np.eye(CLASSES, dtype=np.float32), return_dict=True)
    except Exception as error:
        raise ConfigurationError(
            f"{space.id} builds, but cannot train: {type(error).__name__}: {error}",
            next_step="Check the arguments of model.compile.",
        ) from error
    if not {"loss", "accuracy"} <= set(logs):
        raise ConfigurationError(
            f"{space.id} trains, but reports {sorted(logs)}, not loss and accuracy.",
            next_step="Compile it with metrics=['accuracy'].",
        )


def _enabling(space: SearchSpace, name: str) -> dict[str, ParamValue]:
    """Values of other parameters that bring ``name`` into use."""
    values: dict[str, ParamValue] = {}
    for rule in space.conditions.get(name, ()):
        values = {**_enabling(space, rule.parent), **values, rule.parent: rule.values[0]}
    return values
