"""A packaged model, read back with plain MLflow."""

from __future__ import annotations

import keras
import mlflow
import numpy as np
import pytest

from fakes import model_record, study_record, trial_record
from mnist_lab.data import ImageForm
from mnist_lab.spaces import get_space
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.tracking.package import package_model
from mnist_lab.tracking.store import artifact_location


@pytest.fixture(scope="module")
def network():
    space = get_space("fnn")
    model = space.build(space.point({"units_1": 32}), (28, 28), 10)
    return keras.Model(model.inputs, model.outputs)  # as a trial saves it


@pytest.fixture(scope="module")
def keras_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    network.save(path)
    return path


@pytest.fixture(scope="module")
def folder(keras_file, tmp_path_factory):
    target = tmp_path_factory.mktemp("packaged") / "model"
    package_model(keras_file, target, ImageForm(), model_id="m-1", run="run")
    return target


def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)


def test_plain_mlflow_loads_it_as_a_keras_model(folder, network):
    loaded = mlflow.keras.load_model(str(folder))
    assert isinstance(loaded, keras.Model)
    assert np.array_equal(loaded.predict(pixels(), verbose=0), network.predict(pixels(), verbose=0))


def test_plain_mlflow_loads_it_as_a_python_function_that_answers_with_classes(folder, network):
    answers = mlflow.pyfunc.load_model(str(folder)).predict(pixels())
    probabilities = [list(answer["probabilities"].values()) for answer in answers]
    assert np.array(probabilities) == pytest.approx(network.predict(pixels(), verbose=0), abs=1e-6)
    assert list(answers[0]["probabilities"]) == [str(digit) for digit in range(10)]


def test_plain_mlflow_does_not_cast_pixels_away(folder):
    model = mlflow.pyfunc.load_model(str(folder))
    assert model.predict(pixels() / 255) == model.predict(pixels())


def test_the_layout_is_the_one_that_mlflow_writes(folder, network, tmp_path):
    mlflow.keras.save_model(network, str(tmp_path / "theirs"), pip_requirements=["keras"])
    theirs = mlflow.models.Model.load(tmp_path / "theirs")
    ours = mlflow.models.Model.load(folder)
    assert ours.flavors["keras"] == theirs.flavors["keras"]
    assert (folder / "data" / "model.keras").exists()
    assert (tmp_path / "theirs" / "data" / "model.keras").exists()


def test_the_requirements_name_the_backend_too(folder):
    names = {line.split("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()}
    assert names == {"keras", "tensorflow", "numpy", "mlflow"}


def test_a_logged_model_carries_its_digest_and_hangs_on_its_run(settings, client, keras_file):
    tracker = MlflowTracker(client, artifact_location(settings, "e"))
    run = tracker.open_trial(study_record(), tracker.open_study(study_record()), trial_record(4))
    record = model_record(
        keras_file,
        trial=4,
        best_epoch=2,
        scalars={"best_val_accuracy": 0.9},
        params={"units_1": 32},
    )
    model = client.get_logged_model(tracker.log_model(run, record))
    assert str(model.status) == "READY"
    assert (model.source_run_id, model.params) == (run, {"units_1": "32"})
    assert len(model.tags["mnist_lab.sha256"]) == 64
    assert [(m.key, m.value, m.step) for m in model.metrics] == [("best_val_accuracy", 0.9, 2)]
    outputs = client.get_run(run).outputs.model_outputs
    assert [(output.model_id, output.step) for output in outputs] == [(model.model_id, 2)]
