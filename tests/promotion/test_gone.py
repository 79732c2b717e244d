"""Versions whose run, experiment, logged model or other artifacts were deleted; their file is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow.cli
import numpy as np
import pytest
from click.testing import CliRunner

from mnist_lab import promotion as promotions
from mnist_lab.data.sealed import find_test_split
from mnist_lab.doctor.models import check_models
from mnist_lab.errors import DataError
from mnist_lab.models.export import export
from mnist_lab.models.predict import predict
from mnist_lab.models.serving import prepare
from mnist_lab.models.versions import (
    find_version,
    find_version_model,
    is_writable,
    list_versions,
    load,
)
from mnist_lab.promotion.openings import count_openings_for

NAME = "tiny-fnn"


@pytest.fixture
def lose(client, settings):
    """Delete what hangs together with a run, as somebody does in MLflow's pages, and ``mlflow gc``."""

    def collect():
        words = ["--backend-store-uri", settings.tracking_uri]
        done = CliRunner().invoke(mlflow.cli.gc, [*words, "--tracking-uri", settings.tracking_uri])
        assert done.exit_code == 0, done.output

    def lose(run, what):
        info = client.get_run(run).info
        if what.startswith("run"):
            client.delete_run(run)
        elif what.startswith("experiment"):
            client.delete_experiment(info.experiment_id)
        elif what == "logged model":
            client.delete_logged_model(client.get_run(run).data.tags["mnist_lab.model"])
        else:
            shutil.rmtree(Path(info.artifact_uri.removeprefix("file://")))
        if what.endswith("for good"):
            collect()

    return lose


@pytest.fixture
def champion(make_study, promote):
    run = make_study("a", "none")
    promote("a")
    return run


def slow(what):
    """One loss of each kind is in the default suite."""
    return pytest.param(what, marks=pytest.mark.slow)


LOSSES = ["run for good", "artifacts", *map(slow, ("run", "experiment", "experiment for good",
                                                  "logged model"))]  # fmt: skip


def model_file(client, number):
    model = find_version_model(client, client.get_model_version(NAME, number))
    return Path(model.uri.removeprefix("file://"))


@pytest.mark.only_by_default("run for good")
@pytest.mark.parametrize("what", LOSSES)
def test_a_champion_predicts_whatever_was_deleted_around_its_file(
    champion, lose, client, what, settings, tmp_path
):
    lose(champion, what)
    np.save(tmp_path / "x.npy", np.full((28, 28), 7, np.uint8))
    version, _, (found,) = predict(client, f"{NAME}@champion", [tmp_path / "x.npy"], settings)
    assert version == f"{NAME}/1"
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["run for good", "experiment for good"])
def test_another_study_takes_over_from_a_champion_of_which_only_the_file_is_left(
    champion, lose, make_study, promote, client, what
):
    lose(champion, what)
    make_study("b", "good")
    promotion = promote("b")
    assert promotion.decision.judgement.comparison is not None
    aliases = client.get_registered_model(NAME).aliases
    assert aliases == {"champion": 2, "previous": 1}


@pytest.mark.slow
def test_a_worse_model_is_promoted_by_force_over_a_champion_without_a_run(
    champion, lose, make_study, promote, client
):
    lose(champion, "experiment for good")
    make_study("b", "none")
    assert promote("b", force=True).promoted
    assert client.get_registered_model(NAME).aliases["champion"] == 2


@pytest.mark.slow
def test_a_challenger_whose_run_is_gone_is_promoted_by_force(
    champion, lose, make_study, promote, client
):
    run = make_study("b", "none")
    assert not promote("b").promoted
    lose(run, "run for good")
    assert promote("b", force=True).promoted
    assert client.get_registered_model(NAME).aliases == {"champion": 2, "previous": 1}


@pytest.mark.slow
def test_a_champion_whose_run_is_gone_is_not_promoted_over_itself(champion, lose, promote, client):
    lose(champion, "run for good")
    assert promote("a").already
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["run", "experiment for good"])
def test_openings_go_on_being_counted(champion, lose, client, settings, record, what):
    lose(champion, what)
    model = find_version_model(client, find_version(client, f"{NAME}@champion"))
    assert promotions.evaluate_model(client, model, record, settings).openings == 2
    assert count_openings_for(client, NAME) == 2


def test_openings_are_counted_elsewhere_where_the_default_experiment_was_deleted(
    champion, client, settings, record
):
    client.delete_experiment("0")
    model = find_version_model(client, find_version(client, f"{NAME}@champion"))
    found = [promotions.evaluate_model(client, model, record, settings).openings for _ in "12"]
    assert found == [1, 2]
    assert client.get_experiment_by_name("mnist-lab/openings") is not None


@pytest.mark.slow
def test_openings_of_other_images_are_counted_on_a_version_without_a_run(
    champion, lose, client, settings, record
):
    lose(champion, "run for good")
    model = find_version_model(client, find_version(client, f"{NAME}@champion"))
    found = [
        promotions.evaluate_on(client, model, "mnist", record, settings).openings for _ in "12"
    ]
    assert found == [1, 2]


@pytest.mark.slow
def test_a_version_knows_which_replica_it_is_without_its_run(champion, lose, client):
    lose(champion, "run for good")
    model = find_version_model(client, find_version(client, f"{NAME}/1"))
    assert (model.study, model.trial, model.run) == ("a+confirm", 2, champion)


@pytest.mark.slow
def test_a_version_without_a_run_is_exported(champion, lose, client, tmp_path, settings):
    lose(champion, "experiment for good")
    (file,) = export(client, f"{NAME}@champion", "keras", tmp_path, settings).files
    assert file.exists()


@pytest.mark.slow
def test_a_version_without_a_run_is_packed_for_the_server(champion, lose, client, settings):
    lose(champion, "experiment for good")
    folder = prepare(client, f"{NAME}@champion", settings)
    assert (folder / "data" / "model.keras").read_bytes() == model_file(client, 1).read_bytes()
    loaded = mlflow.pyfunc.load_model(str(folder))
    answers = loaded.predict(find_test_split().open().images[:2])
    assert [len(answer["probabilities"]) for answer in answers] == [10, 10]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["run", "run for good", "artifacts"])
def test_the_card_of_a_version_is_shown_whatever_became_of_its_run(champion, lose, client, what):
    version = client.get_model_version(NAME, "1")
    before = promotions.read_card(client, version)
    lose(champion, what)
    assert promotions.read_card(client, version) == before


@pytest.mark.slow
def test_a_rollback_leads_to_a_version_without_a_run(
    champion, lose, make_study, promote, client, settings
):
    make_study("b", "good")
    promote("b")
    lose(champion, "run for good")
    assert promotions.rollback(client, settings, NAME) == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["experiment for good", "logged model"])
def test_the_doctor_has_nothing_against_a_version_whose_file_is_there(
    champion, lose, client, what, settings
):
    lose(champion, what)
    assert list(check_models(client, settings)) == []


@pytest.mark.slow
def test_a_deleted_run_or_experiment_is_not_written_to(champion, make_study, lose, client):
    other = make_study("b")
    assert is_writable(client, other)
    lose(champion, "run")
    assert not is_writable(client, champion)
    lose(other, "experiment")
    assert not is_writable(client, other)
    assert not is_writable(client, "")


@pytest.mark.slow
def test_a_champion_whose_file_is_gone_stops_a_promotion_with_the_command_that_does_not_need_it(
    champion, make_study, promote, client
):
    make_study("b", "good")
    model_file(client, 1).unlink()
    with pytest.raises(DataError, match=r"cannot be fetched.*mnist-lab promote b --force"):
        promote("b")
    assert count_openings_for(client, NAME) == 1


@pytest.mark.slow
def test_by_force_a_champion_whose_file_is_gone_is_replaced_uncompared_and_that_is_written_down(
    champion, make_study, promote, client, tmp_path
):
    run = make_study("b", "good")
    model_file(client, 1).unlink()
    decision = promote("b", force=True).decision
    assert (decision.forced, decision.champion, decision.champion_accuracy) == (True, 1, None)
    assert "cannot be read" in decision.judgement.reason
    assert client.get_registered_model(NAME).aliases == {"champion": 2, "previous": 1}
    said = Path(client.download_artifacts(run, "decision/decision.md", str(tmp_path))).read_text()
    assert "that of the champion (version 1) was not measured" in said


@pytest.mark.slow
def test_a_decision_without_a_champion_that_could_be_read_is_made_again_without_force(
    champion, make_study, promote, client
):
    make_study("b", "good")
    file = model_file(client, 1)
    content = file.read_bytes()
    file.unlink()
    promote("b", force=True)
    client.set_registered_model_alias(NAME, "champion", "1")
    file.write_bytes(content)
    assert promote("b").decision.judgement.comparison is not None


@pytest.mark.slow
def test_the_advice_for_a_champion_whose_file_is_gone_is_a_command_that_helps(
    champion, make_study, promote, client, settings
):
    make_study("b", "good")
    promote("b")
    model_file(client, 2).unlink()
    (finding,) = check_models(client, settings)
    assert finding.advice.endswith(f"or type: mnist-lab rollback {NAME}")
    promotions.rollback(client, settings, NAME)
    (left,) = check_models(client, settings)
    assert "delete the version" in left.advice
    client.delete_registered_model_alias(NAME, "previous")
    client.delete_model_version(NAME, "2")
    assert list(check_models(client, settings)) == []


@pytest.mark.slow
def test_without_a_champion_before_the_advice_is_to_promote_by_force(
    champion, make_study, promote, client, settings
):
    make_study("b", "good")
    model_file(client, 1).unlink()
    (finding,) = check_models(client, settings)
    assert finding.advice.endswith("mnist-lab promote STUDY --force")
    promote("b", force=True)
    assert find_version(client, f"{NAME}@champion").version == 2


def test_nothing_is_registered_before_the_file_was_looked_at(make_study, promote, client):
    run = make_study("a")
    logged = client.get_logged_model(client.get_run(run).data.tags["mnist_lab.model"])
    file = Path(logged.artifact_location.removeprefix("file://")) / "data" / "model.keras"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(DataError, match="refused"):
        promote("a")
    assert not client.search_registered_models()


@pytest.mark.slow
def test_a_file_that_keras_cannot_load_is_not_registered(make_study, promote, client, monkeypatch):
    make_study("a")

    def fail(*_, **__):
        raise ValueError("an unknown word")

    monkeypatch.setattr("mnist_lab.promotion.entries.load", load)  # not one that was loaded before
    monkeypatch.setattr("keras.saving.load_model", fail)
    with pytest.raises(DataError, match="an unknown word"):
        promote("a")
    assert not client.search_registered_models()


@pytest.mark.slow
def test_versions_of_a_model_that_somebody_named_with_a_quote_are_listed(champion, client):
    client.create_registered_model("it's")
    client.create_model_version("it's", "file:///nowhere")
    assert {row.name for row in list_versions(client)} == {NAME, "it's"}


@pytest.mark.slow
def test_a_champion_that_was_never_scored_is_scored_by_the_advice(
    champion, client, settings, record
):
    client.delete_model_version_tag(NAME, "1", "mnist_lab.test_accuracy")
    (finding,) = check_models(client, settings)
    assert finding.advice == f"Type: mnist-lab evaluate {NAME}@champion"
    model = find_version_model(client, find_version(client, f"{NAME}@champion"))
    promotions.evaluate_model(client, model, record, settings)
    assert list(check_models(client, settings)) == []
