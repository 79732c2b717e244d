"""An ensemble's model in MLflow: the mean of several trainings, logged with a run of its own."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lab.models import ModelFile, find_trial_model
from mnist_lab.promotion.contest import Contest
from mnist_lab.promotion.entries import Entry
from mnist_lab.tracking import ModelRecord
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.training import save_model

if TYPE_CHECKING:
    import keras


def log_ensemble(contest: Contest, entry: Entry, network: keras.Model) -> ModelFile:
    """Log ``network``, the mean of an entry's models, unless that was done before an interruption.

    Its run stands on the study's page.
    """
    client, record, contender = contest.client, entry.ledger.record, contest.candidate.contender
    params, blueprint = entry.group.trials[0].params, entry.models[0].blueprint
    tracker = MlflowTracker(client)
    page = tracker.open_study(record)
    run = tracker.open_ensemble(record, page, contender.trial, entry.group.name, params)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.keras"
        save_model(network, file)
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
                blueprint=""
                if blueprint is None
                else replace(blueprint, members=contender.members).to_json(),
                images=record.images,
            ),
        )
    client.set_terminated(run)
    return find_trial_model(client, run)
