"""Checks for runs and models in MLflow that no process will finish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Run

from mnist_lab.doctor.finding import Finding
from mnist_lab.settings import Settings
from mnist_lab.study import is_locked, open_studies
from mnist_lab.tracking import TAG
from mnist_lab.tracking.locations import sqlite_file
from mnist_lab.tracking.pages import all_pages
from mnist_lab.tracking.runs import EXPERIMENT_PREFIX, find_runs


def check_runs(client: MlflowClient, settings: Settings) -> Iterator[Finding]:
    """Find runs that say RUNNING though their study is gone, and models that were never finished.

    Only in a database of this folder: other machines may write to a server.
    """
    if sqlite_file(settings) is None:
        return
    experiments = [
        each.experiment_id
        for each in client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT_PREFIX}%'")
    ]
    if not experiments:
        return
    known = _study_ids(settings)
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


def _is_swept(tags: Mapping[str, str], settings: Settings) -> bool:
    """Whether a sweep on this machine holds the study that the tags name."""
    return is_locked(settings.work, tags.get(f"{TAG}study", ""))


def _study_ids(settings: Settings) -> set[str]:
    """The studies of this storage: ``check_studies`` looks after their runs."""
    return {study.record.id for study in open_studies(settings)}


def _close(client: MlflowClient, run: Run) -> None:
    client.set_tag(run.info.run_id, f"{TAG}state", "interrupted")
    client.set_terminated(run.info.run_id, status="KILLED")
