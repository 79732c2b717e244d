"""``sync``: write studies into the tracker afterwards, when it was away or a sweep was killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

from optuna.trial import TrialState

from mnist_lab.errors import BusyError, MnistLabError
from mnist_lab.execution import TrialFiles
from mnist_lab.publish.connect import TrackerFactory, connect_mlflow, make_figures
from mnist_lab.publish.writer import TrackerWriter
from mnist_lab.report import best_models, summarise
from mnist_lab.settings import Settings
from mnist_lab.study import (
    STATES,
    Ledger,
    TrialFacts,
    is_orphan,
    is_untracked,
    lock_study,
    open_study,
    searched_study,
    study_names,
)
from mnist_lab.tracking import State, Tracker, describe_trouble


@dataclass(frozen=True, kw_only=True)
class SyncRow:
    """The result of ``sync`` for a study: ``written`` of its ``trials`` were not as in the study.

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
    """Bring the tracker in line with study ``name``, or with all; correct records are left alone.

    ``listener`` gets the study, how many of its trials were compared, and of how many.

    Raises:
        UnknownNameError: there is no such study.
        ServiceError: the tracker does not answer.
    """
    names = [name] if name else study_names(settings)
    return [_sync_study(settings, each, make_tracker, listener) for each in names]


def _sync_study(
    settings: Settings,
    name: str,
    make_tracker: TrackerFactory,
    listener: Callable[[str, int, int], None],
) -> SyncRow:
    study = open_study(settings, name)
    if not study.is_managed:
        return SyncRow(study=name, note="not made by this version of mnist-lab")
    if is_orphan(study):
        return SyncRow(study=name, note="the study that it confirms is gone")
    if _is_elsewhere(study, settings):
        return SyncRow(study=name, note="unfinished, and its files are on another machine")
    try:
        with lock_study(settings, name):
            record, files = study.record, TrialFiles(settings.work / name)
            tracker = make_tracker(settings, record)
            with closing(make_figures(settings, record, files)) as figures:
                writer = TrackerWriter(
                    record, lambda: tracker, files, figures=figures, running=False
                )
                return _write(study, tracker, writer, files, listener)
    except BusyError:
        return SyncRow(study=name, note="is being swept, and written by its sweep")
    except MnistLabError:
        raise  # the store itself: the next study would meet the same
    except Exception as error:  # whatever MLflow refuses: the next study may be accepted
        return SyncRow(study=name, note=f"stopped: {describe_trouble(error)}", failed=True)


def _is_elsewhere(study: Ledger, settings: Settings) -> bool:
    """Whether another machine may be sweeping it: locks are of one machine."""
    running = study.trials((TrialState.RUNNING,))
    return bool(running) and not (settings.work / study.name).exists()


def _write(
    study: Ledger,
    tracker: Tracker,
    writer: TrackerWriter,
    files: TrialFiles,
    listener: Callable[[str, int, int], None],
) -> SyncRow:
    lacking = _compare(study, tracker)
    trials, models = _begun(study), best_models(study, files)
    if lacking.whole and not models:
        return SyncRow(study=study.name, trials=len(trials))
    for done, trial in enumerate(trials, start=1):
        if trial.number in lacking.trials:
            study.write_tracked(writer.trial(trial.record()))
        listener(study.name, done, len(trials))
    for model, of_trial in models:
        writer.model(model, of_trial)
    writer.close(summarise(study))
    return SyncRow(
        study=study.name, trials=len(trials), written=len(lacking.trials), models=len(models)
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
    study: Ledger, settings: Settings, *, make_tracker: TrackerFactory = connect_mlflow
) -> Difference:
    """Find the differences between the tracker and ``study``; nothing is written.

    Raises:
        ServiceError: the tracker does not answer.
    """
    return _compare(study, make_tracker(settings, study.record))


def _compare(study: Ledger, tracker: Tracker) -> Difference:
    record = study.record
    found = tracker.find_study(record)
    states = tracker.find_trials(record, found.run) if found is not None else {}
    tracked, wrong = study.tracked(), {}
    for trial in _begun(study):
        problem = _difference(states.get(trial.number), STATES[trial.state])
        known = not trial.is_finished or not is_untracked(trial, tracked)
        if problem or not known:
            wrong[trial.number] = problem or "not acknowledged"
    page = _difference(found.state if found else None, searched_study(study).state)
    return Difference(study=page, trials=wrong)


def _difference(found: State | None, expected: State) -> str:
    if found is None:
        return "missing"
    return "" if found == expected else f"{found} instead of {expected}"


def _begun(study: Ledger) -> list[TrialFacts]:
    return [trial for trial in study.trials() if trial.is_begun]
