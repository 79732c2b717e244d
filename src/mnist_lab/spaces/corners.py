"""The corners of a declared space: the points at which a builder most likely fails."""

from __future__ import annotations

from collections.abc import Iterator

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mnist_lab.spaces.space import SearchSpace
from mnist_lab.spaces.values import ParamValue


def corners(space: SearchSpace) -> Iterator[dict[str, ParamValue]]:
    """Yield the baseline, the baseline with each parameter at each extreme, all lowest, all highest.

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
    """Return every choice, or the lowest and the highest number."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def _enabling(space: SearchSpace, name: str) -> dict[str, ParamValue]:
    """Return values of other parameters that bring ``name`` into use."""
    values: dict[str, ParamValue] = {}
    for rule in space.conditions.get(name, ()):
        values = {**_enabling(space, rule.parent), **values, rule.parent: rule.values[0]}
    return values
