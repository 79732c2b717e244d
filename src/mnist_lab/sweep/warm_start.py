"""Warm start: the best points of earlier studies of a space, tried behind a new study's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from optuna.distributions import BaseDistribution, CategoricalDistribution

from mnist_lab.errors import UnknownNameError, UsageError
from mnist_lab.settings import Settings
from mnist_lab.spaces import Params, ParamValue, SearchSpace
from mnist_lab.study import Ledger, WarmPoint, is_confirmation, open_studies

NONE, AUTO = "none", "auto"
MOST_POINTS = 4
MOST_A_STUDY = 10  # of the best, from which different ones are chosen
LEAST_DISTANCE = 0.1  # in the mean over parameters, each from 0 to 1


@dataclass(frozen=True)
class _Candidate:
    warm: WarmPoint
    point: Params


def find_warm_points(
    choice: str, settings: Settings, space: SearchSpace, *, fixed: Params, known: Sequence[Params]
) -> list[WarmPoint]:
    """Find points for a new study of ``space``: the best of earlier ones that differ from each other.

    Args:
        choice: ``none``, ``auto`` for every study of the space or of another version of it, on
            whichever data, or the name of one study.
        fixed: values that are kept in every trial.
        known: points that are tried anyway.

    Raises:
        UnknownNameError: no such study.
        UsageError: it is of another family.
    """
    if choice == NONE:
        return []
    donors = _find_donors(choice, settings, space)
    # The best of each study first, then the second of each: scores of different data say nothing.
    ranks = zip_longest(*(_candidates(donor, space, fixed) for donor in donors))
    chosen: list[_Candidate] = []
    for candidate in filter(None, chain.from_iterable(ranks)):
        others = [*known, *(each.point for each in chosen)]
        if all(_distance(space, candidate.point, other) >= LEAST_DISTANCE for other in others):
            chosen.append(candidate)
        if len(chosen) == MOST_POINTS:
            break
    return [each.warm for each in chosen]


def _find_donors(choice: str, settings: Settings, space: SearchSpace) -> list[Ledger]:
    studies = [each for each in open_studies(settings) if not is_confirmation(each.name)]
    if choice == AUTO:
        return [each for each in studies if each.record.family == space.name]
    found = [each for each in studies if each.name == choice]
    if not found:
        names = [each.name for each in studies]
        raise UnknownNameError("study", choice, names, next_step="See: mnist-lab studies")
    if found[0].record.family != space.name:
        raise UsageError(
            f"{choice} is a study of {found[0].record.space}, not of {space.id}.",
            safe="Nothing was trained.",
            next_step="Name a study of the same space, or: --warm-start auto",
        )
    return found


def _candidates(donor: Ledger, space: SearchSpace, fixed: Params) -> Iterator[_Candidate]:
    """Yield the best points of ``donor`` that are points of ``space``, too."""
    for trial in donor.ranked()[:MOST_A_STUDY]:
        known: dict[str, ParamValue] = {
            name: value for name, value in trial.params.items() if name in space.distributions
        }
        try:
            point = space.point({**known, **fixed})
        except UsageError:  # a range is narrower here, or a combination is not allowed
            continue
        assert trial.value is not None
        yield _Candidate(
            WarmPoint(study=donor.name, trial=trial.number, value=trial.value, point=point), point
        )


def _distance(space: SearchSpace, first: Params, second: Params) -> float:
    """The mean difference over the parameters that either point has, each from 0 to 1."""
    names = [name for name in space.distributions if name in first or name in second]
    parts = [
        _difference(space.distributions[name], first.get(name), second.get(name)) for name in names
    ]
    return sum(parts) / len(parts) if parts else 0.0


def _difference(
    distribution: BaseDistribution, first: ParamValue | None, second: ParamValue | None
) -> float:
    if first is None or second is None or isinstance(distribution, CategoricalDistribution):
        return float(first != second)
    low, high = float(distribution.low), float(distribution.high)  # type: ignore[attr-defined]
    a, b = float(first), float(second)
    if distribution.log:  # type: ignore[attr-defined]
        low, high, a, b = (math.log(each) for each in (low, high, a, b))
    return abs(a - b) / (high - low) if high > low else 0.0
