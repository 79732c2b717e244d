"""``sync``: replay studies into the tracker, for when it was away, or somebody was killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.errors import BusyError, MnistLabError, first_line
from mnist_lab.execution import TrialFiles
from mnist_lab.publish.connect import TrackerFactory, connect_mlflow, make_figure_process
from mnist_lab.publish.writer import TrackerWriter
from mnist_lab.report import best_models, study_state, summarise
from mnist_lab.settings import Settings
from mnist_lab.study import (
    connect,
    is_orphan,
    is_ours,
    ledger,
    lock_study,
    open_study,
    read_fingerprint,
    searched_study,
)
from mnist_lab.tracking import State, StudyRecord, Tracker


@dataclass(frozen=True, kw_only=True)
class SyncRow:
    """What was done for a study: ``written`` of its ``trials`` were not as the study has them.

    ``note`` says why nothing was done, or not all of it; else it is empty.
    """

    study: str
    trials: int = 0
    written: int = 0
    models: int = 0
    note: str = ""
    failed: bool = False


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
    made_with = read_fingerprint(study)
    if not is_ours(study) or record is None or made_with is None:
        return SyncRow(study=name, note="not made by this version of mnist-lab")
    if is_orphan(study):
        return SyncRow(study=name, note="the study that it confirms is gone")
    if _is_elsewhere(study, settings):
        return SyncRow(study=name, note="unfinished, and its files are on another machine")
    try:
        with lock_study(settings.work, name):
            files, tracker = TrialFiles(settings.work / name), make_tracker(settings, record)
            artist = make_figure_process(
                settings, made_with.dataset_source, made_with.dataset_digest, files
            )
            with closing(artist):
                projection = TrackerWriter(
                    record,
                    lambda: tracker,
                    files,
                    draw=artist.draw,
                    draw_dataset=artist.draw_dataset,
                    running=False,
                )
                return _write(study, tracker, projection, files, listener)
    except BusyError:
        return SyncRow(study=name, note="is being swept, and written by its sweep")
    except MnistLabError:
        raise  # the store itself: the next study would meet the same
    except Exception as error:  # whatever MLflow refuses: the next study may be welcome
        return SyncRow(study=name, note=f"stopped: {first_line(error)}", failed=True)


def _is_elsewhere(study: optuna.Study, settings: Settings) -> bool:
    """Whether somebody on another machine may be sweeping it: locks are of one machine."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return bool(running) and not (settings.work / study.study_name).exists()


def _write(
    study: optuna.Study,
    tracker: Tracker,
    projection: TrackerWriter,
    files: TrialFiles,
    listener: Callable[[str, int, int], None],
) -> SyncRow:
    record = ledger.read_study(study)
    assert record is not None
    gap = _compare(study, record, tracker)
    trials, models = _begun(study), best_models(study, files)
    if gap.whole and not models:
        return SyncRow(study=study.study_name, trials=len(trials))
    for done, trial in enumerate(trials, start=1):
        if trial.number in gap.trials:
            ledger.write_tracked(study, projection.trial(ledger.read_record(trial)))
        listener(study.study_name, done, len(trials))
    for model, of_trial in models:
        projection.model(model, of_trial)
    projection.close(summarise(study))
    return SyncRow(
        study=study.study_name, trials=len(trials), written=len(gap.trials), models=len(models)
    )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the tracker differs from a study: its own run, and its trials by number."""

    study: str
    trials: Mapping[int, str]

    @property
    def whole(self) -> bool:
        return not self.study and not self.trials


def find_difference(
    study: optuna.Study, settings: Settings, *, make_tracker: TrackerFactory = connect_mlflow
) -> Difference:
    """What the tracker lacks; writes nothing.

    Raises:
        ServiceError: the tracker does not answer.
    """
    record = ledger.read_study(study)
    if record is None:
        return Difference(study="", trials={})
    return _compare(study, record, make_tracker(settings, record))


def _compare(study: optuna.Study, record: StudyRecord, tracker: Tracker) -> Difference:
    found = tracker.find_study(record)
    states = tracker.find_trials(record, found.run) if found is not None else {}
    tracked, wrong = ledger.read_tracked(study), {}
    for trial in _begun(study):
        problem = _difference(states.get(trial.number), ledger.STATES[trial.state])
        known = trial.state not in ledger.FINISHED or not ledger.is_untracked(trial, tracked)
        if problem or not known:
            wrong[trial.number] = problem or "not acknowledged"
    page = _difference(found.state if found else None, study_state(searched_study(study)))
    return Difference(study=page, trials=wrong)


def _difference(found: State | None, expected: State) -> str:
    if found is None:
        return "missing"
    return "" if found == expected else f"{found} instead of {expected}"


def _begun(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if ledger.is_begun(trial)]
