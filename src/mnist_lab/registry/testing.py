"""Opening the sealed test set: one model, once more, and the opening is counted on its run."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from mnist_lab.data import load_dataset
from mnist_lab.data.sealed import open_test_split
from mnist_lab.errors import DataError
from mnist_lab.evaluation import Evaluation, evaluate
from mnist_lab.evaluation.figures import draw_predictions, save
from mnist_lab.execution.resources import usable_cores
from mnist_lab.registry.models import TrialModel, fetch_keras_file, versions_of
from mnist_lab.settings import Settings
from mnist_lab.sweep.study import Fingerprint
from mnist_lab.tracking.mlflow_tracker import TAG
from mnist_lab.training import Runtime, configure
from mnist_lab.training.engine import VALIDATION_BATCH


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """``openings`` counts how often this model has seen the test images, this time included."""

    __test__ = False  # pytest would take the class for a test by its name

    model: TrialModel
    evaluation: Evaluation
    openings: int


def evaluate_model(
    client: MlflowClient, model: TrialModel, made_with: Fingerprint, settings: Settings
) -> TestResult:
    """Score ``model`` on the test images of its study's data set and write it all on its run.

    The opening is counted before the images are opened, on the run and on every version made of it.

    Raises:
        DataError: the model file or the data set is not what it was.
    """
    _check_data(made_with, settings)
    configure(Runtime(threads=usable_cores()))
    import keras

    with tempfile.TemporaryDirectory() as folder:
        file = fetch_keras_file(client, model, Path(folder))
        network = keras.saving.load_model(file, compile=False, safe_mode=True)
        openings = _count_opening(client, model.run)
        test = open_test_split(made_with.dataset_source, data_folder=settings.data_folder)
        probabilities = network.predict(test.images, batch_size=VALIDATION_BATCH, verbose=0)
        evaluation = evaluate(probabilities, test.labels)
        records = Path(folder) / "test"
        save(draw_predictions(evaluation, probabilities, test), records / "figures")
        for name, document in evaluation.to_json().items():
            (records / f"{name}.json").write_text(json.dumps(document, indent=1))
        client.log_artifacts(model.run, str(records), "test")
    _log(client, model.run, evaluation, openings)
    for version in versions_of(client, model.run):
        accuracy = repr(evaluation.accuracy)
        client.set_model_version_tag(version.name, version.version, f"{TAG}test_accuracy", accuracy)
    return TestResult(model=model, evaluation=evaluation, openings=openings)


def _check_data(made_with: Fingerprint, settings: Settings) -> None:
    found = load_dataset(made_with.dataset_source, data_folder=settings.data_folder).digest
    if found != made_with.dataset_digest:
        raise DataError(
            f"{made_with.dataset_source} is not the data that the study was made with: its digest is "
            f"{found[:12]}…, expected {made_with.dataset_digest[:12]}….",
            safe="The test images were not opened.",
            next_step="Put the former file back.",
        )


def _count_opening(client: MlflowClient, run: str) -> int:
    key = f"{TAG}test_openings"
    openings = int(client.get_run(run).data.tags.get(key, 0)) + 1
    client.set_tag(run, key, str(openings))
    for version in versions_of(client, run):
        client.set_model_version_tag(version.name, version.version, key, str(openings))
    return openings


def _log(client: MlflowClient, run: str, evaluation: Evaluation, openings: int) -> None:
    stamp = int(time.time() * 1000)
    numbers = {
        "test_accuracy": evaluation.accuracy,
        "test_loss": evaluation.loss,
        **evaluation.scalars("test"),
    }
    rows = [Metric(key, value, stamp, openings) for key, value in numbers.items()]
    client.log_batch(run, metrics=rows)
