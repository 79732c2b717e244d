"""The tried points of a study, so that none is tried twice while another never was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mnist_lab.spaces import Params, ParamValue

# A parameter of more values counts as continuous: its points will not all be tried.
MOST_VALUES = 10_000


@dataclass(kw_only=True)
class _Node:
    """The next parameter after the same answers: its distribution, and a node for each value."""

    distribution: BaseDistribution | None = None
    after: dict[ParamValue, _Node] = field(default_factory=dict)
    ends: set[int] = field(default_factory=set)  # trials whose parameters end here


class SeenPoints:
    """The points of a study as a tree, one level a parameter, in the order they are asked for.

    A branch is exhausted when a trial ended there, or every value of what is asked next is exhausted.
    """

    def __init__(self) -> None:
        self._root = _Node()

    def note(
        self, trial: int, params: Params, distributions: Mapping[str, BaseDistribution]
    ) -> None:
        """Add the parameters of ``trial``, in the order that they were asked for."""
        # No branch with a continuous parameter is ever exhausted: it need not be remembered.
        if any(count_values(distributions[name]) is None for name in params):
            return
        node = self._root
        for name, value in params.items():
            node.distribution = distributions[name]
            node = node.after.setdefault(_hashable(value), _Node())
        node.ends.add(trial)

    def unseen(
        self,
        before: Iterable[ParamValue],
        distribution: BaseDistribution,
        value: ParamValue,
        random: np.random.Generator,
    ) -> ParamValue:
        """Return ``value``, unless all points with it after ``before`` were tried and others were not.

        Then one of the others, each with the same chance.
        """
        node: _Node | None = self._root
        for answer in before:
            node = node.after.get(_hashable(answer)) if node else None
        if node is None or not _is_exhausted(node.after.get(_hashable(value))):
            return value
        others = [
            each
            for each in values_of(distribution) or []
            if not _is_exhausted(node.after.get(_hashable(each)))
        ]
        return others[random.integers(len(others))] if others else value


def count_values(distribution: BaseDistribution) -> int | None:
    """Count the values of ``distribution``; None if continuous, or more than ``MOST_VALUES``."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.low == distribution.high:
        return 1
    if not distribution.step:
        return None
    count = round((distribution.high - distribution.low) / distribution.step) + 1
    return count if count <= MOST_VALUES else None


def values_of(distribution: BaseDistribution) -> list[ParamValue] | None:
    """Return every value of ``distribution``; None where ``count_values`` is."""
    count = count_values(distribution)
    if count is None or isinstance(distribution, CategoricalDistribution):
        return None if count is None else list(distribution.choices)  # type: ignore[attr-defined]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    values = (distribution.low + index * (distribution.step or 0) for index in range(count))
    if isinstance(distribution, IntDistribution):
        return [int(value) for value in values]
    return [float(f"{value:.12g}") for value in values]


def _is_exhausted(node: _Node | None) -> bool:
    if node is None:
        return False
    if not node.after:
        return bool(node.ends)
    values = values_of(node.distribution) if node.distribution is not None else None
    return values is not None and all(
        _is_exhausted(node.after.get(_hashable(value))) for value in values
    )


def _hashable(value: ParamValue) -> ParamValue:
    # True equals 1, and a storage of JSON makes lists of tuples.
    return repr(value) if isinstance(value, bool | list | tuple) else value
