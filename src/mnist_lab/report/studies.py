"""The studies in a storage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from optuna.trial import TrialState

from mnist_lab.errors import UnknownNameError
from mnist_lab.settings import Settings
from mnist_lab.study import Ledger, is_confirmation, open_studies


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One study; ``unfinished`` trials run now, or were interrupted and wait to be resumed."""

    study: str
    space: str
    dataset: str
    epochs: int
    complete: int
    pruned: int
    failed: int
    unfinished: int
    best_trial: int | None
    best_val_accuracy: float | None
    started: datetime | None


def list_studies(settings: Settings) -> list[StudyRow]:
    """List every study that mnist-lab made in the storage, oldest first."""
    rows = [_row(study) for study in open_studies(settings) if not is_confirmation(study.name)]
    return sorted(rows, key=lambda row: row.started or datetime.max)


def latest_study(settings: Settings) -> str:
    """Return the name of the study that was begun last.

    Raises:
        UnknownNameError: there is none.
    """
    rows = [row for row in list_studies(settings) if row.started is not None]
    if not rows:
        raise UnknownNameError("study", "", (), next_step="Type first: mnist-lab sweep cnn")
    return rows[-1].study


def _row(study: Ledger) -> StudyRow:
    record, trials = study.record, study.trials()
    states = Counter(trial.state for trial in trials)
    best = next(iter(study.ranked()), None)
    begun = [trial.began for trial in trials if trial.state != TrialState.WAITING]
    return StudyRow(
        study=study.name,
        space=record.space,
        dataset=record.dataset,
        epochs=record.epochs,
        complete=states[TrialState.COMPLETE],
        pruned=states[TrialState.PRUNED],
        failed=states[TrialState.FAIL],
        unfinished=states[TrialState.RUNNING],
        best_trial=best.number if best else None,
        best_val_accuracy=best.val_accuracy if best else None,
        started=datetime.fromtimestamp(min(begun)) if begun else None,
    )
