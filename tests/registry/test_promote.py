"""Promotion, with a real registry and real models of few images."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from fakes import finished, model_record, outcome, study_record, trial_record
from mnist_lab import registry
from mnist_lab.data.sealed import open_test_split
from mnist_lab.errors import DataError, MnistLabError, UnknownNameError, UsageError
from mnist_lab.registry.models import find_trial_model, find_version, list_versions
from mnist_lab.spaces import get_space
from mnist_lab.sweep import SweepConfig, ledger
from mnist_lab.sweep.storage import connect
from mnist_lab.sweep.strategies import make_pruner
from mnist_lab.sweep.study import create_study, fingerprint
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.tracking.store import artifact_location


@pytest.fixture
def make_study(settings, client, small_dataset, tmp_path):
    """A finished study of one trial with a given validation accuracy and a logged model."""
    space = get_space("fnn")

    def make(name, value, *, model=True):
        made_with = fingerprint(SweepConfig(space="fnn"), space, small_dataset)
        pruner = make_pruner("none", epochs=1)
        study = create_study(connect(settings), name, made_with, pruner=pruner)
        tracker = MlflowTracker(client, artifact_location(settings, "e"))
        record = study_record(id=name, name=name, dataset_digest=small_dataset.digest)
        parent = tracker.open_study(record)
        trial = study.ask()
        run = tracker.open_trial(record, parent, trial_record(params={}))
        ledger.write_start(trial, seed=0, attempt=1)
        ledger.write_tracked(study, ledger.Tracked(trial=0, run=run, closed=True))
        ledger.write_result(trial, finished(0, 1, value))
        study.tell(trial, value)
        tracker.close_trial(run, outcome())
        if model:
            file = tmp_path / f"{name}.keras"
            keras.utils.set_random_seed(int(value * 1000))
            network = space.build(space.point({"units_1": 32}), (28, 28), 10)
            keras.Model(network.inputs, network.outputs).save(file)
            tracker.log_model(run, model_record(file, study=name, scalars={}, params={}))
        return run

    return make


@pytest.fixture
def promote(client, settings, monkeypatch):
    # In the command, TensorFlow is set up first; here the suite has imported it already.
    monkeypatch.setattr("mnist_lab.registry.testing.configure", lambda _: None)
    return lambda study, **options: registry.promote(client, study, settings, **options)


def test_the_first_model_becomes_the_champion(make_study, promote, client):
    make_study("a", 0.9)
    promotion = promote("a")
    assert (promotion.name, promotion.version, promotion.champion_version) == ("tiny-fnn", 1, None)
    assert client.get_model_version_by_alias("tiny-fnn", "champion").version == 1


def test_a_better_model_takes_over_and_the_former_is_previous(make_study, promote, client):
    make_study("a", 0.9)
    make_study("b", 0.95)
    promote("a")
    promotion = promote("b")
    assert (promotion.version, promotion.champion_accuracy) == (2, 0.9)
    aliases = client.get_registered_model("tiny-fnn").aliases
    assert aliases == {"champion": 2, "previous": 1}


@pytest.mark.parametrize("accuracy", [0.85, 0.9])
def test_a_model_that_is_no_better_is_not_even_registered(make_study, promote, client, accuracy):
    make_study("a", 0.9)
    run = make_study("b", accuracy)
    promote("a")
    promotion = promote("b")
    assert not promotion.promoted
    assert len(client.search_model_versions("name = 'tiny-fnn'")) == 1
    assert "mnist_lab.test_openings" not in client.get_run(run).data.tags


def test_force_promotes_a_worse_model_and_says_so(make_study, promote, client):
    make_study("a", 0.9)
    make_study("b", 0.8)
    promote("a")
    promotion = promote("b", force=True)
    assert (promotion.version, promotion.forced) == (2, True)
    assert client.get_model_version_by_alias("tiny-fnn", "champion").version == 2


def test_promoting_the_same_study_again_makes_no_second_version(make_study, promote, client):
    make_study("a", 0.9)
    promote("a")
    assert not promote("a", force=True).promoted
    assert len(client.search_model_versions("name = 'tiny-fnn'")) == 1
    assert [row.test_openings for row in list_versions(client)] == [1]
    assert client.get_registered_model("tiny-fnn").aliases == {"champion": 1}


def test_a_version_says_where_it_came_from(make_study, promote, client, small_dataset):
    run = make_study("a", 0.9)
    promote("a")
    version = client.get_model_version("tiny-fnn", "1")
    assert version.run_id == run
    tags = {key.removeprefix("mnist_lab."): value for key, value in version.tags.items()}
    assert {"study": "a", "trial": "0", "run": run, "val_accuracy": "0.9"}.items() <= tags.items()
    assert tags["dataset_digest"] == small_dataset.digest
    assert len(tags["sha256"]) == len(tags["space_digest"]) == 64


def test_the_sealed_images_are_opened_once_and_the_opening_is_counted(
    make_study, promote, client, small_file, plain_mlflow
):
    run = make_study("a", 0.9)
    result = promote("a").test
    test = open_test_split(str(small_file))
    logged = client.get_run(run).data.tags["mnist_lab.model"]
    model = plain_mlflow.keras.load_model(f"models:/{logged}")
    predicted = model.predict(test.images, verbose=0).argmax(axis=1)
    assert result.evaluation.accuracy == np.mean(predicted == test.labels)
    data = client.get_run(run).data
    assert data.metrics["test_accuracy"] == pytest.approx(result.evaluation.accuracy)
    assert data.tags["mnist_lab.test_openings"] == "1"
    names = {file.path for file in client.list_artifacts(run, "test")}
    assert names == {
        "test/figures", "test/confusion_matrix.json", "test/classification_report.json",
        "test/roc.json",
    }  # fmt: skip


def test_every_later_opening_is_counted_on_the_version(
    make_study, promote, client, settings, small_dataset
):
    run = make_study("a", 0.9)
    promote("a")
    made_with = fingerprint(SweepConfig(space="fnn"), get_space("fnn"), small_dataset)
    registry.evaluate_model(client, find_trial_model(client, run), made_with, settings)
    assert [row.test_openings for row in list_versions(client)] == [2]


def test_a_model_that_is_champion_again_is_not_scored_again(make_study, promote, client):
    make_study("a", 0.9)
    make_study("b", 0.95)
    promote("a")
    promote("b")
    back = promote("a", force=True)
    assert (back.version, back.test) == (1, None)
    assert client.get_registered_model("tiny-fnn").aliases == {"champion": 1, "previous": 2}
    assert {row.test_openings for row in list_versions(client)} == {1}


def test_data_that_changed_since_the_sweep_is_never_opened(
    make_study, promote, client, settings, small_dataset
):
    run = make_study("a", 0.9)
    made_with = fingerprint(SweepConfig(space="fnn"), get_space("fnn"), small_dataset)
    with pytest.raises(DataError, match="is not the data that the study was made with"):
        registry.evaluate_model(
            client,
            find_trial_model(client, run),
            replace(made_with, dataset_digest="0" * 64),
            settings,
        )
    assert "mnist_lab.test_openings" not in client.get_run(run).data.tags


def test_a_champion_of_other_images_is_no_measure(make_study, promote, client):
    make_study("a", 0.9)
    make_study("b", 0.95)
    promote("a")
    client.set_model_version_tag("tiny-fnn", "1", "mnist_lab.dataset_digest", "0" * 64)
    with pytest.raises(MnistLabError, match="validated on other images"):
        promote("b")
    assert promote("b", force=True).promoted


def test_plain_mlflow_loads_the_champion(make_study, promote, plain_mlflow):
    make_study("a", 0.9)
    promote("a")
    model = plain_mlflow.keras.load_model("models:/tiny-fnn@champion")
    assert model.predict(np.zeros((1, 28, 28), np.uint8), verbose=0).shape == (1, 10)


def test_a_damaged_model_file_moves_no_alias(make_study, promote, client):
    make_study("a", 0.9)
    promote("a")
    run = make_study("b", 0.95)
    location = client.get_logged_model(find_trial_model(client, run).model).artifact_location
    path = location.removeprefix("file://") + "/data/model.keras"
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\xff\xff\xff")
    with pytest.raises(DataError, match="damaged"):
        promote("b")
    assert client.get_registered_model("tiny-fnn").aliases == {"champion": 1}


def test_a_trial_without_a_logged_model_says_what_to_raise(make_study, promote):
    make_study("a", 0.9, model=False)
    with pytest.raises(UnknownNameError, match="keep_models"):
        promote("a")


def test_a_study_without_a_complete_trial_cannot_be_promoted(settings, small_dataset, promote):
    made_with = fingerprint(SweepConfig(space="fnn"), get_space("fnn"), small_dataset)
    pruner = make_pruner("none", epochs=1)
    create_study(connect(settings), "empty", made_with, pruner=pruner)
    with pytest.raises(MnistLabError, match="no complete trial"):
        promote("empty")


def test_a_registry_that_fails_is_not_taken_for_an_empty_one(make_study, promote, client):
    make_study("a", 0.9)

    def fail(*_):
        raise MlflowException("the disk is on fire")

    client.get_model_version_by_alias = fail
    with pytest.raises(MlflowException, match="on fire"):
        promote("a")


def test_versions_are_listed_newest_first_with_their_aliases(make_study, promote, client):
    for study, value in (("a", 0.8), ("b", 0.9)):
        make_study(study, value)
        promote(study)
    rows = list_versions(client)
    assert [(row.version, row.aliases, row.study) for row in rows] == [
        (2, ("champion",), "b"), (1, ("previous",), "a"),
    ]  # fmt: skip
    assert [row.val_accuracy for row in rows] == [0.9, 0.8]
    assert [row.test_openings for row in rows] == [1, 1]
    assert list_versions(client, "other") == []


@pytest.mark.parametrize("reference", ["tiny-fnn@champion", "tiny-fnn/1"])
def test_a_version_is_found_by_alias_and_by_number(make_study, promote, client, reference):
    make_study("a", 0.9)
    promote("a")
    assert find_version(client, reference).version == 1


@pytest.mark.parametrize("reference", ["tiny-fnn@champ", "tiny-fnn/9"])
def test_an_unknown_version_is_refused_with_the_known_ones(make_study, promote, client, reference):
    make_study("a", 0.9)
    promote("a")
    with pytest.raises(UnknownNameError, match="tiny-fnn@champion"):
        find_version(client, reference)


def test_a_bare_name_is_no_version(client):
    with pytest.raises(UsageError, match="MODEL@ALIAS"):
        find_version(client, "tiny-fnn")
