"""``MlflowTracker``: one parent run a study, one child run a trial, written by explicit run ids.

The fluent API is not used: its stack of active runs marks runs by how the process happens to end.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping
from getpass import getuser
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset as MlflowDataset,
)
from mlflow.entities import (
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)

from mnist_lab.data import Dataset, Split
from mnist_lab.tracking.package import package_model
from mnist_lab.tracking.revision import git_commit
from mnist_lab.tracking.tracker import (
    ModelRecord,
    State,
    StudyRecord,
    StudySummary,
    TrialOutcome,
    TrialRecord,
)
from mnist_lab.training import EpochMetrics

STATUS: Mapping[State, str] = {
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
TAG = "mnist_lab."
DIGEST_LENGTH = 36  # MLflow's limit for a dataset's digest; the whole sha256 is in the tags
# The kind tag opens the page on runs and charts; without it MLflow 3 shows its GenAI layout.
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": "best_val_accuracy",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "true",
}


class MlflowTracker:
    """Writes to the store behind ``client``; ``locate`` gives a new experiment's artifact folder."""

    def __init__(self, client: MlflowClient, artifact_location: str | None = None) -> None:
        self._client = client
        self._artifact_location = artifact_location
        self._experiment = ""

    def open_study(self, study: StudyRecord, run: str | None) -> str:
        self._experiment = self._find_experiment(study)
        if run is not None:
            self._client.update_run(run, status="RUNNING")
            return run
        created = self._client.create_run(
            self._experiment,
            run_name=study.name,
            tags={**_common_tags(study), f"{TAG}level": "study", **_source_tags()},
        )
        parent = str(created.info.run_id)
        self._client.log_batch(parent, params=_params(study.settings))
        self._client.log_inputs(parent, _dataset_inputs(study.dataset))
        if study.figures is not None:
            self._client.log_artifacts(parent, str(study.figures))
        return parent

    def open_runs(self, study_run: str) -> frozenset[str]:
        found: list[str] = []
        page: str | None = None
        while True:
            runs = self._client.search_runs(
                [self._experiment],
                f"tags.mlflow.parentRunId = '{study_run}' and attributes.status = 'RUNNING'",
                page_token=page,
            )
            found += [run.info.run_id for run in runs]
            page = runs.token
            if not page:
                return frozenset(found)

    def open_trial(self, trial: TrialRecord) -> str:
        tags = {
            **_common_tags(trial.study),
            **_source_tags(),
            "mlflow.parentRunId": trial.parent_run,
            f"{TAG}level": "trial",
            f"{TAG}trial": str(trial.trial),
            f"{TAG}attempt": str(trial.attempt),
            f"{TAG}seed": str(trial.seed),
            f"{TAG}state": "running",
            **({f"{TAG}baseline": "true"} if trial.baseline else {}),
        }
        created = self._client.create_run(
            self._experiment, run_name=f"trial-{trial.trial:04d}", tags=tags
        )
        run = str(created.info.run_id)
        self._client.log_batch(run, params=_params(trial.params))
        self._client.log_inputs(run, _dataset_inputs(trial.study.dataset))
        return run

    def log_epoch(self, run: str, metrics: EpochMetrics) -> None:
        stamp = int(metrics.timestamp * 1000)
        rows = [
            Metric(key, value, stamp, metrics.epoch) for key, value in metrics.metrics().items()
        ]
        self._client.log_batch(run, metrics=rows)

    def close_trial(self, run: str, outcome: TrialOutcome) -> None:
        stamp = int(time.time() * 1000)
        tags = {
            f"{TAG}state": outcome.state,
            **({f"{TAG}reason": outcome.reason} if outcome.reason else {}),
            **({"mlflow.note.content": outcome.detail[:5000]} if outcome.detail else {}),
        }
        self._client.log_batch(
            run,
            metrics=[
                Metric(key, value, stamp, outcome.best_epoch)
                for key, value in outcome.scalars.items()
            ],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        if outcome.artifacts is not None and outcome.artifacts.is_dir():
            self._client.log_artifacts(run, str(outcome.artifacts))
        self._client.set_terminated(run, status=STATUS[outcome.state])

    def log_model(self, run: str, model: ModelRecord) -> str:
        digest = hashlib.sha256(model.file.read_bytes()).hexdigest()
        logged = self._client.create_logged_model(
            self._client.get_run(run).info.experiment_id,
            name=f"{model.study}-trial-{model.trial:04d}",
            source_run_id=run,
            tags={
                f"{TAG}study": model.study,
                f"{TAG}trial": str(model.trial),
                f"{TAG}sha256": digest,
            },
            params={key: str(value) for key, value in model.params.items()},
            model_type="classifier",
        )
        status = LoggedModelStatus.FAILED
        try:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "model"
                package_model(model.file, folder, logged.model_id, run)
                self._client.log_model_artifacts(logged.model_id, str(folder))
            status = LoggedModelStatus.READY
        finally:
            self._client.finalize_logged_model(logged.model_id, status)
        self._client.log_outputs(run, [LoggedModelOutput(logged.model_id, model.best_epoch)])
        stamp = int(time.time() * 1000)
        rows = [
            Metric(key, value, stamp, model.best_epoch, model_id=logged.model_id, run_id=run)
            for key, value in model.scalars.items()
        ]
        self._client.log_batch(run, metrics=rows, tags=[RunTag(f"{TAG}model", logged.model_id)])
        return str(logged.model_id)

    def close_study(self, run: str, summary: StudySummary) -> None:
        stamp = int(time.time() * 1000)
        tags = {
            **{f"{TAG}{key}": value for key, value in summary.tags.items()},
            f"{TAG}state": summary.state,
            "mlflow.note.content": summary.note,
        }
        self._client.log_batch(
            run,
            metrics=[Metric(key, value, stamp, 0) for key, value in summary.metrics.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        if summary.importances:
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / "importances.json"
                file.write_text(json.dumps(dict(summary.importances), indent=1))
                self._client.log_artifact(run, str(file))
        self._client.set_terminated(run, status=STATUS[summary.state])

    def _find_experiment(self, study: StudyRecord) -> str:
        name = experiment_name(study.dataset.name, study.family)
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(
            self._client.create_experiment(
                name, artifact_location=self._artifact_location, tags=EXPERIMENT_TAGS
            )
        )


def experiment_name(dataset: str, family: str) -> str:
    """MLflow's experiment of a family on a data set, e.g. ``mnist-lab/mnist-cnn``."""
    return f"mnist-lab/{dataset}-{family}"


def _params(values: Mapping[str, object]) -> list[Param]:
    return [Param(key, str(value)) for key, value in values.items()]


def _common_tags(study: StudyRecord) -> dict[str, str]:
    return {
        f"{TAG}study": study.name,
        f"{TAG}space": study.space,
        f"{TAG}dataset_digest": study.dataset.digest,
    }


def _source_tags() -> dict[str, str]:
    tags = {
        "mlflow.source.name": "mnist-lab",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    commit = git_commit()
    return {**tags, "mlflow.source.git.commit": commit} if commit else tags


def _user() -> str:
    try:
        return getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"


def _dataset_inputs(dataset: Dataset) -> list[DatasetInput]:
    return [
        _dataset_input(dataset.name, "train", dataset.train),
        _dataset_input(dataset.name, "validation", dataset.validation),
    ]


def _dataset_input(name: str, context: str, split: Split) -> DatasetInput:
    entity = MlflowDataset(
        name=f"{name}-{context}",
        digest=split.digest[:DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"name": name, "split": context}),
        schema=json.dumps({"images": "(N, 28, 28) uint8", "labels": "(N,) uint8"}),
        profile=json.dumps({"images": len(split), "sha256": split.digest}),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", context)])
