"""Checks of each study against MLflow and against the files in its folder."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path

from optuna.trial import TrialState

from mnist_lab.doctor.finding import Finding
from mnist_lab.execution import TrialFiles
from mnist_lab.publish import find_difference, sync
from mnist_lab.settings import Settings
from mnist_lab.study import Ledger, find_dataset, is_locked, is_orphan, lock_study, open_studies
from mnist_lab.tracking import ExperimentDeletedError
from mnist_lab.training import Damaged, read_checkpoint


def check_studies(settings: Settings) -> Iterator[Finding]:
    """Find records that MLflow lacks of studies that no sweep holds, and the files they left."""
    studies = open_studies(settings)
    for study in studies:
        if is_locked(settings, study.name) or is_orphan(study):
            continue  # its sweep looks after it; or no page of MLflow is its own
        yield from _check_tracking(study, settings)
        yield from _check_data(study, settings)
        files = TrialFiles(settings.work / study.name)
        if files.owner == study.record.id:
            yield from _check_files(study, files, settings)
    yield from _check_unowned(settings, {study.record.id for study in studies})


def _check_unowned(settings: Settings, owners: Container[str]) -> Iterator[Finding]:
    for folder in sorted(path.parent for path in settings.work.glob("*/study-id")):
        if TrialFiles(folder).owner not in owners:
            yield Finding(
                subject=str(folder),
                problem="has files of a study that is not in this storage",
                advice="Delete it, if the study is not in another (MNIST_LAB_STORAGE) either.",
            )


def _check_tracking(study: Ledger, settings: Settings) -> Iterator[Finding]:
    try:
        lacking = find_difference(study, settings)
    except ExperimentDeletedError as error:
        yield Finding(
            subject=f"study {study.name}",
            problem=f"its experiment {error.name!r} was deleted in MLflow, and its runs with it",
            advice=f"Type: MLFLOW_TRACKING_URI={shlex.quote(error.uri)} {error.restore}",
        )
        return
    if not lacking.whole:
        counts = sorted(Counter(lacking.trials.values()).items())
        parts = [f"{count} trials {what}" for what, count in counts]
        said = ", ".join(
            [*parts, *([f"the study's run is {lacking.study}"] if lacking.study else [])]
        )
        yield Finding(
            subject=f"study {study.name}",
            problem=f"MLflow is not as the study: {said}",
            advice=f"Replays it (mnist-lab sync {study.name}).",
            repair=partial(sync, settings, study.name),
        )


def _check_data(study: Ledger, settings: Settings) -> Iterator[Finding]:
    """Find studies whose data cannot be read any more; whether they are the same is not looked at."""
    record = study.record
    if record.dataset_source and find_dataset(record, settings) is None:
        yield Finding(
            subject=f"study {study.name}",
            problem=f"its data {record.dataset_source} are gone",
            advice="Put them back, or say where they lie: "
            f"mnist-lab confirm {study.name} --dataset PATH",
        )


def _check_files(study: Ledger, files: TrialFiles, settings: Settings) -> Iterator[Finding]:
    if files.shared_data.exists():
        yield _left_over(files.shared_data, settings, "a sweep that was killed")
    states = {trial.number: trial.state for trial in study.trials()}
    for number in files.numbers():
        folder = files.folder(number)
        if states.get(number) == TrialState.RUNNING:
            yield from _check_checkpoints(files, number, settings)
        elif not files.artifacts(number).exists() and not files.model(number).exists():
            yield _left_over(folder, settings, "a trial that has ended")


def _left_over(folder: Path, settings: Settings, of: str) -> Finding:
    return Finding(
        subject=str(folder),
        problem=f"left over from {of}",
        advice="Deletes it.",
        repair=partial(_remove, folder, settings),
    )


def _check_checkpoints(files: TrialFiles, number: int, settings: Settings) -> Iterator[Finding]:
    folder = files.checkpoints(number)
    for checkpoint in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            read_checkpoint(checkpoint)
        except Damaged as error:
            yield Finding(
                subject=str(checkpoint),
                problem=f"not a whole checkpoint ({error})",
                advice="Deletes it; the trial goes on from the one before.",
                repair=partial(_remove, checkpoint, settings),
            )


def _remove(folder: Path, settings: Settings) -> None:
    study = folder.relative_to(settings.work).parts[0]
    with lock_study(settings, study):  # or a sweep may be writing it anew
        shutil.rmtree(folder)
