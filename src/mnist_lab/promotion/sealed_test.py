"""The opening of the sealed test images: for one model, or for the replicas of a challenge."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from numpy.typing import NDArray

from mnist_lab.data import load_dataset
from mnist_lab.data.sealed import SealedSplit, find_test_split
from mnist_lab.errors import DataError
from mnist_lab.evaluation import Evaluation, evaluate, pack_classes, unpack_classes
from mnist_lab.evaluation.figures import draw_predictions, save
from mnist_lab.models import ModelFile, fetch, is_writable, load, versions_of
from mnist_lab.promotion.entries import Entry, predict_classes
from mnist_lab.promotion.gate import Costs
from mnist_lab.promotion.openings import count_opening
from mnist_lab.settings import Settings
from mnist_lab.study import load_original_dataset
from mnist_lab.tracking import TAG, StudyRecord
from mnist_lab.training import VALIDATION_BATCH, measure_latency

if TYPE_CHECKING:
    import keras

    from mnist_lab.data import Dataset, Split


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """A model's scores on sealed images; ``openings`` counts theirs, this one included."""

    __test__ = False  # pytest would take the class for a test by its name

    model: ModelFile
    evaluation: Evaluation
    openings: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """The opened ``test`` images, and how often they were opened, with this.

    ``champion`` are the mistakes ``(1, N_S)`` of a champion's file, None if it was not asked.
    """

    test: Split
    openings: int
    champion: NDArray[np.bool_] | None = None


def evaluate_model(
    client: MlflowClient,
    model: ModelFile,
    record: StudyRecord,
    settings: Settings,
    *,
    dataset: str | None = None,
) -> TestResult:
    """Score ``model`` on the test images of its study's data set, and record the result.

    The opening is counted before the model sees an image. A run that is gone is written to no more.

    Raises:
        DataError: the model file or the data set is not what it was.
    """
    source = load_original_dataset(record, settings, dataset).source
    network = load(client, model, settings)  # what cannot be loaded opens nothing
    sealed = find_test_split(source, image_size=record.image_size, data_folder=settings.data_folder)
    purpose = uuid.uuid4().hex[:12]
    openings = count_opening(client, sealed.digest, purpose, dataset=record.dataset)
    opened = Opened(test=sealed.open(), openings=openings)
    names = record.images.class_names
    evaluation = score(client, model, network, opened, names)
    return TestResult(model=model, evaluation=evaluation, openings=openings)


def evaluate_on(
    client: MlflowClient,
    model: ModelFile,
    dataset: str,
    record: StudyRecord,
    settings: Settings,
) -> TestResult:
    """Score ``model`` on the test images of any data set.

    Of the data of its study that is ``evaluate_model``, by whatever name or path they are given. Of
    others nothing is written down but the opening, counted by their digest.

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
    sealed = find_test_split(
        dataset, image_size=record.image_size, data_folder=settings.data_folder
    )
    purpose = uuid.uuid4().hex[:12]
    openings = count_opening(client, sealed.digest, purpose, dataset=given.name)
    test = sealed.open()
    probabilities = network.predict(test.images, batch_size=VALIDATION_BATCH, verbose=0)
    names = record.images.class_names
    return TestResult(
        model=model, evaluation=evaluate(probabilities, test.labels, names), openings=openings
    )


def open_for(
    entries: Sequence[Entry],
    sealed: SealedSplit,
    purpose: str,
    *,
    client: MlflowClient,
    dataset: str,
    champion: keras.Model | None = None,
) -> Opened:
    """Have each of ``entries`` predict the sealed images that it has not predicted yet.

    Their networks were loaded before the first image is seen. The opening is counted once for
    ``purpose``, also when it was interrupted and is done again. A ``champion`` of which only the file
    is left predicts them, too. ``dataset`` is the name of the data.
    """
    openings = count_opening(client, sealed.digest, purpose, dataset=dataset)
    test = sealed.open()
    for each in entries:
        if each.network is None:
            continue
        text = pack_classes(predict_classes(each.network, test.images))
        each.ledger.keep_classes(test.digest, each.group.name, text)
    return Opened(
        test=test,
        openings=openings,
        champion=None
        if champion is None
        else (predict_classes(champion, test.images) != test.labels)[None],
    )


def read_sealed(entries: Sequence[Entry], test: Split) -> NDArray[np.bool_]:
    """Return the mistakes ``(n, N_S)`` of entries that have predicted the sealed images."""
    rows = _read_kept(entries, test.digest)
    return np.stack([row != test.labels for row in rows if row is not None])


def _read_kept(entries: Sequence[Entry], digest: str) -> list[NDArray[np.uint8] | None]:
    kept = {
        ledger.name: ledger.kept_classes(digest)
        for ledger in {each.ledger.name: each.ledger for each in entries}.values()
    }
    texts = [kept[each.ledger.name].get(each.group.name) for each in entries]
    return [None if text is None else unpack_classes(text) for text in texts]


def score(
    client: MlflowClient,
    model: ModelFile,
    network: keras.Model,
    opened: Opened,
    class_names: Sequence[str],
) -> Evaluation:
    """Score a model on the opened images, and record the result on its run and its versions."""
    test = opened.test
    probabilities = network.predict(test.images, batch_size=VALIDATION_BATCH, verbose=0)
    evaluation = evaluate(probabilities, test.labels, class_names)
    if is_writable(client, model.run):
        with tempfile.TemporaryDirectory() as folder:
            _log_records(client, model.run, evaluation, probabilities, test, Path(folder) / "test")
        _log(client, model.run, evaluation, opened.openings)
    for version in versions_of(client, model.run):
        accuracy = repr(evaluation.accuracy)
        client.set_model_version_tag(version.name, version.version, f"{TAG}test_accuracy", accuracy)
    return evaluation


def measure_costs(
    client: MlflowClient, model: ModelFile, network: keras.Model, test: Split
) -> Costs:
    """Measure what a model costs, on this machine."""
    with tempfile.TemporaryDirectory() as scratch:
        size = fetch(client, model, Path(scratch)).stat().st_size
    return Costs(
        parameters=int(network.count_params()),
        file_size=size,
        latency=measure_latency(network, test.images[:1]),
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
