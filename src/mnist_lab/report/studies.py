"""The studies in a storage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import optuna
from optuna.trial import TrialState

from mnist_lab.errors import UnknownNameError
from mnist_lab.settings import Settings
from mnist_lab.study import SUFFIX, connect, ledger, read_fingerprint


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One study; ``unfinished`` trials are running now, or were cut off and wait to be resumed."""

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
    """Every study that mnist-lab made in the storage, oldest first."""
    opened = connect(settings)
    searches = [
        optuna.load_study(study_name=name, storage=opened)
        for name in optuna.get_all_study_names(opened)
        if not name.endswith(SUFFIX)
    ]
    rows = [_row(study) for study in searches if read_fingerprint(study) is not None]
    return sorted(rows, key=lambda row: row.started or datetime.max)


def latest_study(settings: Settings) -> str:
    """The name of the study that was begun last.

    Raises:
        UnknownNameError: there is none.
    """
    rows = [row for row in list_studies(settings) if row.started is not None]
    if not rows:
        raise UnknownNameError("study", "", (), next_step="Type first: mnist-lab sweep cnn")
    return rows[-1].study


def _row(study: optuna.Study) -> StudyRow:
    made_with = read_fingerprint(study)
    assert made_with is not None
    trials = ledger.own_trials(study)
    states = Counter(trial.state for trial in trials)
    best = next(iter(ledger.rank(study)), None)
    return StudyRow(
        study=study.study_name,
        space=made_with.space,
        dataset=made_with.dataset,
        epochs=made_with.epochs,
        complete=states[TrialState.COMPLETE],
        pruned=states[TrialState.PRUNED],
        failed=states[TrialState.FAIL],
        unfinished=states[TrialState.RUNNING],
        best_trial=best.number if best else None,
        best_val_accuracy=best.value if best else None,
        started=min((t.datetime_start for t in trials if t.datetime_start), default=None),
    )
