"""Distributions from ranges, and the values in their middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mnist_lab.spaces.values import ParamValue, contains

if TYPE_CHECKING:
    pass


def int_range(low: int, high: int, *, step: int = 1, log: bool = False) -> IntDistribution:
    """Make a range of whole numbers; ``high`` is lowered to the last step, where Optuna would warn."""
    return IntDistribution(low, high - (high - low) % step, log=log, step=step)


def float_range(
    low: float, high: float, *, step: float | None = None, log: bool = False
) -> FloatDistribution:
    """Make a range of numbers; ``high`` is lowered to the last step, where Optuna would warn."""
    if step:
        high = float(f"{low + int((high - low) / step + 1e-8) * step:.12g}")
    return FloatDistribution(low, high, log=log, step=step)


def middle(distribution: BaseDistribution) -> ParamValue:
    """Return the first choice, or the middle of a range: the geometric one if it is logarithmic."""
    if isinstance(distribution, CategoricalDistribution):
        first: ParamValue = distribution.choices[0]
        return first
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    centre = (low * high) ** 0.5 if distribution.log else (low + high) / 2
    return nearest(distribution, centre)


def nearest(distribution: BaseDistribution, value: ParamValue) -> ParamValue:
    """Return the value of ``distribution`` that is nearest to ``value``."""
    if contains(distribution, value) or isinstance(distribution, CategoricalDistribution):
        return value
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    wanted = min(max(float(value or 0), distribution.low), distribution.high)
    if distribution.step:
        steps = round((wanted - distribution.low) / distribution.step)
        wanted = distribution.low + steps * distribution.step
    return round(wanted) if isinstance(distribution, IntDistribution) else float(f"{wanted:.12g}")
