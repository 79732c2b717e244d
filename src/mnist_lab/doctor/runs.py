"""Checks for runs, models and views in MLflow whose study is gone."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import partial

from mlflow import MlflowClient
from mlflow.entities import Experiment, LoggedModelStatus, Run

from mnist_lab.doctor.finding import Finding
from mnist_lab.settings import Settings
from mnist_lab.study import is_locked, open_studies
from mnist_lab.tracking import TAG
from mnist_lab.tracking.locations import sqlite_file
from mnist_lab.tracking.pages import all_pages
from mnist_lab.tracking.runs import EXPERIMENT_PREFIX, find_runs
from mnist_lab.tracking.views import study_of


def check_runs(client: MlflowClient, settings: Settings) -> Iterator[Finding]:
    """Find runs, models and saved views that nothing will finish, or whose study is gone.

    Only in a database of this folder: other machines may write to a server.
    """
    if sqlite_file(settings) is None:
        return
    found = client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT_PREFIX}%'")
    if not found:
        return
    experiments = [each.experiment_id for each in found]
    known = _study_ids(settings)
    yield from _check_views(client, found, known)
    for run in find_runs(client, experiments, "attributes.status = 'RUNNING'"):
        tags = run.data.tags
        if tags.get(f"{TAG}study_id") not in known and not _is_swept(tags, settings):
            yield Finding(
                subject=f"run {run.info.run_name} ({run.info.run_id})",
                problem="says RUNNING, and its study is not in this storage",
                advice="Marks it as interrupted.",
                repair=partial(_close, client, run),
            )
    for model in all_pages(client.search_logged_models, experiments):
        if model.status == LoggedModelStatus.PENDING and not _is_swept(model.tags, settings):
            yield Finding(
                subject=f"model {model.name}",
                problem="was never logged whole",
                advice="Deletes it; mnist-lab sync logs it again if its file is still there.",
                repair=partial(client.delete_logged_model, model.model_id),
            )


def _check_views(
    client: MlflowClient, experiments: Sequence[Experiment], known: Container[str]
) -> Iterator[Finding]:
    """Find saved views of studies that were deleted: MLflow lists them for ever."""
    for experiment in experiments:
        for tag in experiment.tags:
            study = study_of(tag)
            if study is not None and study not in known:
                yield Finding(
                    subject=f"a saved view in {experiment.name}",
                    problem="its study is not in this storage",
                    advice="Deletes the view; runs stay.",
                    repair=partial(client.delete_experiment_tag, experiment.experiment_id, tag),
                )


def _is_swept(tags: Mapping[str, str], settings: Settings) -> bool:
    """Whether a sweep on this machine holds the study that the tags name."""
    return is_locked(settings, tags.get(f"{TAG}study", ""))


def _study_ids(settings: Settings) -> set[str]:
    """The studies of this storage: ``check_studies`` looks after their runs."""
    return {study.record.id for study in open_studies(settings)}


def _close(client: MlflowClient, run: Run) -> None:
    client.set_tag(run.info.run_id, f"{TAG}state", "interrupted")
    client.set_terminated(run.info.run_id, status="KILLED")
