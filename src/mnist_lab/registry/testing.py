"""Opening the sealed test set: one model, once more, and the opening is counted on its run."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from mnist_lab.data.sealed import open_test_split
from mnist_lab.evaluation import Evaluation, evaluate
from mnist_lab.evaluation.figures import draw_predictions, save
from mnist_lab.execution.resources import usable_cores
from mnist_lab.registry.models import TrialModel, fetch_keras_file
from mnist_lab.settings import Settings
from mnist_lab.sweep.study import Fingerprint
from mnist_lab.tracking.mlflow_tracker import TAG
from mnist_lab.training import Runtime, configure
from mnist_lab.training.train import VALIDATION_BATCH


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

    Raises:
        DataError: the model file or the data set is not what it was.
    """
    configure(Runtime(threads=usable_cores()))
    import keras

    with tempfile.TemporaryDirectory() as folder:
        file = fetch_keras_file(client, model, Path(folder))
        network = keras.saving.load_model(file, compile=False, safe_mode=True)
        test = open_test_split(made_with.dataset_source, data_folder=settings.data_folder)
        probabilities = network.predict(test.images, batch_size=VALIDATION_BATCH, verbose=0)
        evaluation = evaluate(probabilities, test.labels)
        records = Path(folder) / "test"
        save(draw_predictions(evaluation, probabilities, test), records / "figures")
        for name, document in evaluation.to_json().items():
            (records / f"{name}.json").write_text(json.dumps(document, indent=1))
        openings = int(client.get_run(model.run).data.tags.get(f"{TAG}test_openings", 0)) + 1
        client.log_artifacts(model.run, str(records), "test")
    _log(client, model.run, evaluation, openings)
    return TestResult(model=model, evaluation=evaluation, openings=openings)


def _log(client: MlflowClient, run: str, evaluation: Evaluation, openings: int) -> None:
    stamp = int(time.time() * 1000)
    numbers = {
        "test_accuracy": evaluation.accuracy,
        "test_loss": evaluation.loss,
        **evaluation.scalars("test"),
    }
    client.log_batch(
        run,
        metrics=[Metric(key, value, stamp, openings) for key, value in numbers.items()],
        tags=[RunTag(f"{TAG}test_openings", str(openings))],
    )
