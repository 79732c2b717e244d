"""The facts of a trial as they stand in the study's storage: the ledger that all else is made from.

Optuna keeps state, params, intermediate values and times; the rest is in user attributes, whose
names and types are this file's alone. They can be written until the trial is told, not after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.errors import UnknownNameError
from mnist_lab.execution import TrialFinished
from mnist_lab.tracking import State, TrialOutcome
from mnist_lab.training import EpochMetrics

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
STATES: Mapping[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "interrupted",
}


def write_start(trial: optuna.Trial, *, seed: int, attempt: int, run: str) -> None:
    trial.set_user_attr("seed", seed)
    trial.set_user_attr("attempt", attempt)
    trial.set_user_attr("run", run)
    trial.set_user_attr("history", [])


def write_history(trial: optuna.Trial, history: Sequence[EpochMetrics]) -> None:
    trial.set_user_attr("history", [asdict(epoch) for epoch in history])


def write_result(trial: optuna.Trial, event: TrialFinished) -> None:
    trial.set_user_attr("scalars", event.scalars)
    trial.set_user_attr("best_epoch", event.best_epoch)


def write_failure(trial: optuna.Trial, reason: str, detail: str) -> None:
    trial.set_user_attr("reason", reason)
    trial.set_user_attr("detail", detail)


def read_run(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("run", ""))


def read_reason(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("reason", ""))


def read_seed(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("seed", 0))


def read_scalars(trial: FrozenTrial) -> dict[str, float]:
    return dict(trial.user_attrs.get("scalars", {}))


def read_best_epoch(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("best_epoch", 0))


def read_history(trial: FrozenTrial) -> tuple[EpochMetrics, ...]:
    return tuple(EpochMetrics(**epoch) for epoch in trial.user_attrs.get("history", ()))


def is_baseline(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get("baseline"))


def read_outcome(trial: FrozenTrial) -> TrialOutcome:
    """What the tracker is to be told of a trial, its files excepted."""
    return TrialOutcome(
        state=STATES[trial.state],
        reason=read_reason(trial),
        detail=str(trial.user_attrs.get("detail", "")),
        scalars=read_scalars(trial),
        best_epoch=read_best_epoch(trial),
    )


def rank(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials, best first; of equals, the earlier."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(done, key=lambda trial: (-(trial.value or 0.0), trial.number))


def find_trial(study: optuna.Study, number: str) -> FrozenTrial:
    """Trial ``number`` of the study; its best when ``number`` is empty.

    Raises:
        UnknownNameError: there is none.
    """
    found = rank(study) if not number else study.get_trials(deepcopy=False)
    for trial in found:
        if not number or str(trial.number) == number:
            return trial
    raise UnknownNameError(
        f"trial of study {study.study_name}", number or "best", [str(t.number) for t in found]
    )
