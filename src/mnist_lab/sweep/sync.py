"""``sync``: replay studies into the tracker, for when it was away, or somebody was killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from mnist_lab.errors import BusyError
from mnist_lab.settings import Settings
from mnist_lab.sweep import ledger
from mnist_lab.sweep.files import TrialFiles
from mnist_lab.sweep.launch import TrackerFactory, connect_mlflow
from mnist_lab.sweep.projection import Projection
from mnist_lab.sweep.storage import connect
from mnist_lab.sweep.study import hold, open_study, read_fingerprint
from mnist_lab.sweep.summary import best_models, summarise
from mnist_lab.tracking import State

KEEP_MODELS = 3  # of a study whose sweep did not come to log them


@dataclass(frozen=True, kw_only=True)
class SyncRow:
    """What was done for a study: ``written`` of its ``trials`` were not as the study has them.

    ``note`` says why nothing was done; else it is empty.
    """

    study: str
    trials: int = 0
    written: int = 0
    models: int = 0
    note: str = ""


def sync(
    settings: Settings,
    name: str | None = None,
    *,
    make_tracker: TrackerFactory = connect_mlflow,
    listener: Callable[[str, int, int], None] = lambda *_: None,
) -> list[SyncRow]:
    """Bring the tracker in line with study ``name``, or with all; what is right already is left.

    ``listener`` is told the study, how many of its trials were looked at, and of how many.

    Raises:
        UnknownNameError: there is no such study.
        ServiceError: the tracker does not answer.
    """
    names = [name] if name else optuna.get_all_study_names(connect(settings))
    return [_sync_study(settings, each, make_tracker, listener) for each in sorted(names)]


def _sync_study(
    settings: Settings,
    name: str,
    make_tracker: TrackerFactory,
    listener: Callable[[str, int, int], None],
) -> SyncRow:
    study = open_study(settings, name)
    record = ledger.read_study(study)
    if read_fingerprint(study) is None or record is None:
        return SyncRow(study=name, note="not made by this version of mnist-lab")
    try:
        with hold(settings.work, name):
            files = TrialFiles(settings.work / name)
            projection = Projection(record, lambda: make_tracker(settings, record), files)
            return _write(study, projection, files, listener)
    except BusyError:
        return SyncRow(study=name, note="is being swept, and written by its sweep")


def _write(
    study: optuna.Study,
    projection: Projection,
    files: TrialFiles,
    listener: Callable[[str, int, int], None],
) -> SyncRow:
    tracker, parent = projection.open()
    wrong = _compare(study, tracker.find_trials(parent))
    trials = _begun(study)
    for done, trial in enumerate(trials, start=1):
        if trial.number in wrong:
            ledger.write_tracked(study, projection.trial(ledger.read_record(trial)))
        listener(study.study_name, done, len(trials))
    models = best_models(study, files, KEEP_MODELS)
    for model, record in models:
        projection.model(model, record)
    ledger.write_study_run(study, parent)
    projection.close(summarise(study))
    return SyncRow(
        study=study.study_name, trials=len(trials), written=len(wrong), models=len(models)
    )


def lacking(
    study: optuna.Study, settings: Settings, *, make_tracker: TrackerFactory = connect_mlflow
) -> dict[int, str]:
    """What the tracker lacks of each trial, by number; writes nothing.

    Raises:
        ServiceError: the tracker does not answer.
    """
    record = ledger.read_study(study)
    if record is None:
        return {}
    tracker = make_tracker(settings, record)
    parent = tracker.find_study(record)
    return _compare(study, tracker.find_trials(parent) if parent else {})


def _compare(study: optuna.Study, found: Mapping[int, State]) -> dict[int, str]:
    tracked, wrong = ledger.read_tracked(study), {}
    for trial in _begun(study):
        state, expected = found.get(trial.number), ledger.STATES[trial.state]
        if state is None:
            wrong[trial.number] = "missing"
        elif state != expected:
            wrong[trial.number] = f"{state} instead of {expected}"
        elif trial.number not in tracked:
            wrong[trial.number] = "not acknowledged"
    return wrong


def _begun(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if ledger.is_begun(trial)]
