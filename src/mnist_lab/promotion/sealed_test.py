"""The opening of the sealed test images for one model; every opening is counted."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from numpy.typing import NDArray

from mnist_lab.data import load_dataset
from mnist_lab.data.sealed import open_test_split
from mnist_lab.errors import DataError
from mnist_lab.evaluation import Evaluation, evaluate
from mnist_lab.evaluation.figures import draw_predictions, save
from mnist_lab.execution import usable_cores
from mnist_lab.models import ModelFile, fetch, is_writable, load, load_trained, versions_of
from mnist_lab.promotion.gate import Measured
from mnist_lab.settings import Settings
from mnist_lab.study import load_original_dataset
from mnist_lab.tracking import TAG, StudyRecord
from mnist_lab.training import VALIDATION_BATCH, Runtime, configure, measure_latency

if TYPE_CHECKING:
    import keras

    from mnist_lab.data import Dataset, Split

OPENINGS = f"{TAG}test_openings"


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """A model's scores on the test images; ``openings`` counts its openings, this one included."""

    __test__ = False  # pytest would take the class for a test by its name

    model: ModelFile
    evaluation: Evaluation
    openings: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Challenger and champion on the same sealed images; ``labels`` are ``(N,) uint8``."""

    test: TestResult
    challenger: Measured
    champion: Measured | None
    labels: NDArray[np.uint8]


def evaluate_model(
    client: MlflowClient,
    model: ModelFile,
    record: StudyRecord,
    settings: Settings,
    *,
    dataset: str | None = None,
) -> TestResult:
    """Score ``model`` on the test images of its study's data set, and record the result.

    The opening is counted before the images are opened: on the run, on every version made of it, and
    on the registered models that these belong to. A run that is gone is written to no more.

    Raises:
        DataError: the model file or the data set is not what it was.
    """
    return score_both(client, model, None, record, settings, dataset=dataset).test


def evaluate_on(
    client: MlflowClient,
    model: ModelFile,
    dataset: str,
    record: StudyRecord,
    settings: Settings,
) -> TestResult:
    """Score ``model`` on the test images of any data set.

    Of the data of its study that is ``evaluate_model``, by whatever name or path they are given. Of
    others nothing is written down but the opening, counted by their name.

    Raises:
        DataError: the model file is not what it was, or there is no such data set.
    """
    given = load_dataset(
        dataset,
        image_size=record.image_size,
        most_duplicates=1.0,
        data_folder=settings.data_folder,
    )
    if given.digest == record.dataset_digest:
        return evaluate_model(client, model, record, settings, dataset=dataset)
    _require_form(given, record)
    network = load(client, model, settings)
    openings = _count_opening(client, model.run, f"{OPENINGS}.{given.name}")
    test = open_test_split(dataset, image_size=record.image_size, data_folder=settings.data_folder)
    probabilities = network.predict(test.images, batch_size=VALIDATION_BATCH, verbose=0)
    names = record.images.class_names
    return TestResult(
        model=model, evaluation=evaluate(probabilities, test.labels, names), openings=openings
    )


def score_both(
    client: MlflowClient,
    challenger: ModelFile,
    champion: ModelFile | None,
    record: StudyRecord,
    settings: Settings,
    *,
    dataset: str | None = None,
) -> Scores:
    """Score the challenger as ``evaluate_model`` does, and measure the champion beside it.

    The champion has seen the images before: only the challenger's opening is counted.
    """
    source = load_original_dataset(record, settings, dataset).source
    configure(Runtime(threads=usable_cores()))
    with tempfile.TemporaryDirectory() as folder:
        file = fetch(client, challenger, Path(folder) / "challenger")
        network = load_trained(file, challenger.sha256, challenger.blueprint, settings)
        champion_file, champion_network = None, None
        if champion is not None:
            champion_file = fetch(client, champion, Path(folder) / "champion")
            champion_network = load_trained(
                champion_file, champion.sha256, champion.blueprint, settings
            )
        openings = _count_opening(client, challenger.run, OPENINGS)
        test = open_test_split(
            source, image_size=record.image_size, data_folder=settings.data_folder
        )
        probabilities = network.predict(test.images, batch_size=VALIDATION_BATCH, verbose=0)
        names = record.images.class_names
        evaluation = evaluate(probabilities, test.labels, names)
        measured = _measure(network, probabilities, evaluation, file, test)
        before = None
        if champion_network is not None and champion_file is not None:
            theirs = champion_network.predict(test.images, batch_size=VALIDATION_BATCH, verbose=0)
            before = _measure(
                champion_network, theirs, evaluate(theirs, test.labels, names), champion_file, test
            )
        if is_writable(client, challenger.run):
            records = Path(folder) / "test"
            _log_records(client, challenger.run, evaluation, probabilities, test, records)
            _log(client, challenger.run, evaluation, openings)
    for version in versions_of(client, challenger.run):
        accuracy = repr(evaluation.accuracy)
        client.set_model_version_tag(version.name, version.version, f"{TAG}test_accuracy", accuracy)
    return Scores(
        test=TestResult(model=challenger, evaluation=evaluation, openings=openings),
        challenger=measured,
        champion=before,
        labels=test.labels,
    )


def _require_form(given: Dataset, record: StudyRecord) -> None:
    """Raise ``DataError`` for data of other images or classes than a model's."""
    if (given.form.shape, given.form.class_names) == (
        record.images.shape,
        record.images.class_names,
    ):
        return
    some = ", ".join(record.images.class_names[:5])
    raise DataError(
        f"{given.name} has images {given.form.shape} of {given.classes} classes; the model takes "
        f"{record.images.shape} of {record.images.classes}: {some}, …",
        safe="No test image was opened.",
        next_step="Give data of the same form and classes.",
    )


def _measure(
    network: keras.Model,
    probabilities: NDArray[np.float32],
    evaluation: Evaluation,
    file: Path,
    test: Split,
) -> Measured:
    return Measured(
        predicted=probabilities.argmax(axis=1),
        calibration_error=evaluation.calibration_error,
        parameters=int(network.count_params()),
        file_size=file.stat().st_size,
        latency=measure_latency(network, test.images[:1]),
    )


def _count_opening(client: MlflowClient, run: str, key: str) -> int:
    """Count one more under the tag ``key``; the run may be gone, and the versions have the count."""
    versions, writable = versions_of(client, run), is_writable(client, run)
    counted = [version.tags for version in versions]
    counted += [client.get_run(run).data.tags] if writable else []
    openings = max((int(tags.get(key, 0)) for tags in counted), default=0) + 1
    if writable:
        client.set_tag(run, key, str(openings))
    for version in versions:
        # Those before it was registered, too; a version that is deleted takes none of the sum along.
        new = openings - int(version.tags.get(key, 0))
        total = int(client.get_registered_model(version.name).tags.get(key, 0)) + new
        client.set_registered_model_tag(version.name, key, str(total))
        client.set_model_version_tag(version.name, version.version, key, str(openings))
    return openings


def _log_records(
    client: MlflowClient,
    run: str,
    evaluation: Evaluation,
    probabilities: NDArray[np.float32],
    test: Split,
    folder: Path,
) -> None:
    folder.mkdir(parents=True)
    save(draw_predictions(evaluation, probabilities, test), folder / "figures")
    for name, document in evaluation.to_json().items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1))
    client.log_artifacts(run, str(folder), "test")


def _log(client: MlflowClient, run: str, evaluation: Evaluation, openings: int) -> None:
    stamp = int(time.time() * 1000)
    numbers = {
        "test_accuracy": evaluation.accuracy,
        "test_loss": evaluation.loss,
        **evaluation.scalars("test"),
    }
    rows = [Metric(key, value, stamp, openings) for key, value in numbers.items()]
    client.log_batch(run, metrics=rows)
