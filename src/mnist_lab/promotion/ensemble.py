"""An ensemble's model in MLflow: the mean of several trainings, logged with a run of its own."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities.model_registry import ModelVersion

from mnist_lab.execution import Blueprint
from mnist_lab.models import (
    ENSEMBLE,
    ModelFile,
    check_trained,
    find_trial_model,
    find_version_model,
    versions_named,
)
from mnist_lab.promotion.contest import Contest
from mnist_lab.promotion.entries import Entry, load_entry
from mnist_lab.tracking import TAG, ModelRecord
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.training import save_model

if TYPE_CHECKING:
    import keras


def ensemble_tags(entry: Entry) -> dict[str, str]:
    """Return the tags by which the version of an ensemble is found."""
    return {
        ENSEMBLE: str(len(entry.models)),
        f"{TAG}replicas": entry.group.name,
        f"{TAG}replicas_id": entry.ledger.record.id,
    }


def require_loadable(contest: Contest, entry: Entry) -> None:
    """Raise ``DataError`` if the file of the ensemble could not be loaded again."""
    with _saved(load_entry(contest, entry)) as file:
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        check_trained(file, sha256, _blueprint(entry), contest.settings)


def log_ensemble(contest: Contest, entry: Entry) -> ModelFile:
    """Log the mean of an entry's models, unless that was done before an interruption.

    Its run stands on the study's page. The model of a version made of it comes first, for the run may
    be gone.
    """
    client, record, contender = contest.client, entry.ledger.record, contest.candidate.contender
    version = _find_version(contest, entry)
    if version is not None:
        return find_version_model(client, version)
    params, blueprint = entry.group.trials[0].params, _blueprint(entry)
    tracker = MlflowTracker(client)
    page = tracker.open_study(record)
    run = tracker.open_ensemble(record, page, contender.trial, entry.group.name, params)
    with _saved(load_entry(contest, entry)) as file:
        tracker.log_model(
            run,
            ModelRecord(
                study=contender.study,
                trial=contender.trial,
                file=file,
                ended=time.time(),
                best_epoch=record.epochs,
                scalars={},
                params=params,
                blueprint="" if blueprint is None else blueprint.to_json(),
                images=record.images,
                kind="ensemble",
            ),
        )
    client.set_terminated(run)
    return find_trial_model(client, run)


def _find_version(contest: Contest, entry: Entry) -> ModelVersion | None:
    own = ensemble_tags(entry).items()
    for version in versions_named(contest.client, contest.candidate.name):
        if own <= version.tags.items():
            return version
    return None


def _blueprint(entry: Entry) -> Blueprint | None:
    blueprint = entry.models[0].blueprint
    return None if blueprint is None else replace(blueprint, members=len(entry.models))


@contextmanager
def _saved(network: keras.Model) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.keras"
        save_model(network, file)
        yield file
