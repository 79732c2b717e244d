"""Checks that the declaration of a space does not contradict itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from optuna.distributions import BaseDistribution

from mnist_lab.spaces.space import Condition, Distributions, SearchSpace
from mnist_lab.spaces.values import Params, as_kind, contains, describe_range


def mistakes(space: SearchSpace) -> Iterator[str]:
    """Yield every mistake of a declaration as one sentence; mistakes of type end the check."""
    kinds = list(_of_kind(space))
    yield from kinds
    if kinds:
        return
    yield from _outside(space.defaults, space.distributions, "the default")
    names = list(space.distributions)
    for name, rules in space.conditions.items():
        if name not in names:
            yield f"a condition is on {name!r}, which is no parameter{_hint(name, names)}"
            continue
        for rule in rules:
            yield from _of_condition(name, rule, space.distributions)
    for start in space.starts:
        unknown = next((name for name in start if name not in names), None)
        if unknown is not None:
            yield f"a start names {unknown!r}, which is no parameter{_hint(unknown, names)}"
        else:
            yield from _outside(start, space.distributions, "a start has")


def _of_kind(space: SearchSpace) -> Iterator[str]:
    for name, found in space.distributions.items():
        if not isinstance(found, BaseDistribution):
            yield f"{name} is a {type(found).__name__}, no distribution of Optuna's"
    for name, rules in space.conditions.items():
        if not (isinstance(rules, tuple) and all(isinstance(each, Condition) for each in rules)):
            yield f"the conditions of {name} must be a tuple of Condition"
    unpaired = sorted(set(space.defaults) ^ set(space.distributions))
    if unpaired:
        yield f"{unpaired} must be both a distribution and a default"


def _outside(values: Params, distributions: Distributions, whose: str) -> Iterator[str]:
    for name, value in values.items():
        distribution = distributions[name]
        if not contains(distribution, as_kind(distribution, value)):
            yield f"{whose} {name}={value!r} is outside {describe_range(distribution)}"


def _of_condition(name: str, rule: Condition, distributions: Distributions) -> Iterator[str]:
    names = list(distributions)
    if rule.parent not in names:
        hint = _hint(rule.parent, names)
        yield f"{name} depends on {rule.parent!r}, which is no parameter{hint}"
    elif names.index(rule.parent) >= names.index(name):
        yield f"{name} depends on {rule.parent}, which must be declared before it"
    else:
        values = ({rule.parent: value} for value in rule.values)
        for value in values:
            yield from _outside(value, distributions, f"{name} depends on a value that cannot be:")


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
