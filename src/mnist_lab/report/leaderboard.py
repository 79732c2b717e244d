"""The trials of a study, best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mnist_lab.spaces import ParamValue
from mnist_lab.study import Ledger


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One complete trial; ``seconds`` is the wall time inside its training,
    ``cross_entropy`` that of the validation images without label smoothing."""

    rank: int
    trial: int
    val_accuracy: float
    objective: str
    value: float | None
    cross_entropy: float
    best_epoch: int
    parameters: int
    seconds: float
    baseline: bool
    run: str
    params: Mapping[str, ParamValue]


def leaderboard(study: Ledger, top: int | None = None) -> list[LeaderboardRow]:
    """Return the complete trials of ``study``, best first, at most ``top`` of them."""
    tracked = study.tracked()
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
            baseline=trial.baseline,
            run=tracked[trial.number].run if trial.number in tracked else "",
            params=trial.params,
        )
        for rank, trial in enumerate(study.ranked()[:top], start=1)
        for scalars in [trial.scalars]
    ]
