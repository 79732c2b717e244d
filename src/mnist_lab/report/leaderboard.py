"""The trials of a study, best first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mnist_lab.spaces import ParamValue
from mnist_lab.study import Ledger, TrialFacts

# Figures of which less is better, and how a trial names them.
FIGURES = {"parameters": "parameters", "seconds": "fit_seconds", "latency": "latency_ms"}
ParetoFigure = Literal["parameters", "seconds", "latency"]


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One complete trial.

    ``seconds`` is the wall time inside its training, ``cross_entropy`` that of the validation images
    without label smoothing. ``latency`` is in milliseconds an image, measured by the worker after its
    training; None for trials of versions that did not measure it. ``pareto``: no trial with as few
    parameters has as good a value.
    ``curve`` holds the objective after each epoch.
    """

    rank: int
    trial: int
    val_accuracy: float
    objective: str
    value: float | None
    cross_entropy: float
    best_epoch: int
    parameters: int
    seconds: float
    latency: float | None
    baseline: bool
    run: str
    params: Mapping[str, ParamValue]
    curve: tuple[float, ...] = ()
    pareto: bool = False


def differing_parameters(trials: Iterable[Mapping[str, ParamValue]]) -> tuple[str, ...]:
    """Return the parameters that do not have one value in all ``trials``, in the space's order."""
    given = list(trials)
    names = dict.fromkeys(name for params in given for name in params)
    return tuple(name for name in names if len({str(each.get(name)) for each in given}) > 1)


def leaderboard(
    study: Ledger, top: int | None = None, *, pareto: ParetoFigure | None = None
) -> list[LeaderboardRow]:
    """Return the complete trials of ``study``, best first, at most ``top`` of them.

    ``pareto``: only those that no trial with as small a figure equals.
    """
    tracked, ranked = study.tracked(), study.ranked()
    smallest = pareto_front(ranked, "parameters")
    kept = pareto_front(ranked, pareto) if pareto else set()
    places = [
        (rank, trial)
        for rank, trial in enumerate(ranked, start=1)
        if pareto is None or trial.number in kept
    ]
    return [
        LeaderboardRow(
            rank=rank,
            trial=trial.number,
            val_accuracy=trial.val_accuracy,
            objective=trial.objective,
            value=trial.value,
            cross_entropy=scalars["val_cross_entropy"],
            best_epoch=trial.best_epoch,
            parameters=int(scalars["parameters"]),
            seconds=scalars["fit_seconds"],
            latency=scalars.get("latency_ms"),
            baseline=trial.baseline,
            run=tracked[trial.number].run if trial.number in tracked else "",
            params=trial.params,
            curve=tuple(epoch.value for epoch in trial.history),
            pareto=trial.number in smallest,
        )
        for rank, trial in places[:top]
        for scalars in [trial.scalars]
    ]


def pareto_front(ranked: Sequence[TrialFacts], figure: ParetoFigure) -> set[int]:
    """Return the ``ranked`` trials (best first) whose ``figure`` no better one undercuts."""
    front, least = set(), math.inf
    for trial in ranked:
        value = trial.scalars.get(FIGURES[figure], math.inf)
        if value < least:
            front.add(trial.number)
            least = value
    return front
