"""Each study against MLflow and against the files that lie in its folder."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path

import optuna
from optuna.trial import TrialState

from mnist_lab.doctor.finding import Finding
from mnist_lab.execution import TrialFiles
from mnist_lab.publish import find_difference, sync
from mnist_lab.settings import Settings
from mnist_lab.study import connect, is_locked, is_orphan, is_ours, ledger, lock_study, open_study
from mnist_lab.tracking import ExperimentDeletedError
from mnist_lab.training import Damaged, read_checkpoint


def check_studies(settings: Settings) -> Iterator[Finding]:
    """Studies that nobody sweeps now: what MLflow lacks of them, and what they left lying."""
    owners = set()
    for name in sorted(optuna.get_all_study_names(connect(settings))):
        study = open_study(settings, name)
        record = ledger.read_study(study)
        owners.add(record.id if record else "")
        if not is_ours(study) or record is None or is_locked(settings.work, name):
            continue  # somebody else's, or its sweep looks after it
        if is_orphan(study):
            continue  # no page of MLflow is its own
        yield from _check_tracking(study, settings)
        files = TrialFiles(settings.work / name)
        if files.owner == record.id:
            yield from _check_files(study, files)
    yield from _check_strangers(settings, owners)


def _check_strangers(settings: Settings, owners: Container[str]) -> Iterator[Finding]:
    for folder in sorted(path.parent for path in settings.work.glob("*/study-id")):
        if TrialFiles(folder).owner not in owners:
            yield Finding(
                subject=str(folder),
                problem="has files of a study that is not in this storage",
                advice="Delete it, if the study is not in another (MNIST_LAB_STORAGE) either.",
            )


def _check_tracking(study: optuna.Study, settings: Settings) -> Iterator[Finding]:
    try:
        gap = find_difference(study, settings)
    except ExperimentDeletedError as error:
        yield Finding(
            subject=f"study {study.study_name}",
            problem=f"its experiment {error.name!r} was deleted in MLflow, and its runs with it",
            advice=f"Type: MLFLOW_TRACKING_URI={shlex.quote(error.uri)} {error.restore}",
        )
        return
    if not gap.whole:
        counts = sorted(Counter(gap.trials.values()).items())
        parts = [f"{count} trials {what}" for what, count in counts]
        said = ", ".join([*parts, *([f"the study's run is {gap.study}"] if gap.study else [])])
        yield Finding(
            subject=f"study {study.study_name}",
            problem=f"MLflow is not as the study: {said}",
            advice=f"Replays it (mnist-lab sync {study.study_name}).",
            repair=partial(sync, settings, study.study_name),
        )


def _check_files(study: optuna.Study, files: TrialFiles) -> Iterator[Finding]:
    if files.shared_data.exists():
        yield _left_over(files.shared_data, files, "a sweep that was killed")
    states = {trial.number: trial.state for trial in study.get_trials(deepcopy=False)}
    for number in files.numbers():
        folder = files.folder(number)
        if states.get(number) == TrialState.RUNNING:
            yield from _check_checkpoints(files, number)
        elif not files.artifacts(number).exists() and not files.model(number).exists():
            yield _left_over(folder, files, "a trial that has ended")


def _left_over(folder: Path, files: TrialFiles, of: str) -> Finding:
    return Finding(
        subject=str(folder),
        problem=f"left over from {of}",
        advice="Deletes it.",
        repair=partial(_remove, folder, files),
    )


def _check_checkpoints(files: TrialFiles, number: int) -> Iterator[Finding]:
    folder = files.checkpoints(number)
    for checkpoint in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            read_checkpoint(checkpoint)
        except Damaged as error:
            yield Finding(
                subject=str(checkpoint),
                problem=f"not a whole checkpoint ({error})",
                advice="Deletes it; the trial goes on from the one before.",
                repair=partial(_remove, checkpoint, files),
            )


def _remove(folder: Path, files: TrialFiles) -> None:
    with lock_study(files.work.parent, files.work.name):  # or a sweep may be writing it anew
        shutil.rmtree(folder)
