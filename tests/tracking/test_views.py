"""Saved views of MLflow's pages."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
import urllib.request
import zlib

import pytest
from mlflow.exceptions import MlflowException

from browser import chromium, needs_chromium, watch
from fakes import epoch_metrics, outcome, study_record, summary, trial_record
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.tracking.server import server_command, server_environment
from mnist_lab.tracking.store import artifact_location
from mnist_lab.tracking.views import (
    find_address,
    find_champion,
    make_view,
    save_view,
    study_of,
    view_tag,
)

STUDY = study_record()


@pytest.fixture
def tracker(settings, client):
    return MlflowTracker(client, artifact_location(settings, "e"))


def state_of(value):
    packed = json.loads(value)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def tags_of(client):
    return client.get_experiment_by_name("mnist-lab/tiny-fnn").tags


def test_a_study_has_its_view_as_soon_as_it_has_its_run(client, tracker):
    run = tracker.open_study(STUDY)
    state = state_of(tags_of(client)[view_tag(STUDY.id)])
    assert f"tags.mlflow.parentRunId = '{run}'" in state["searchFilter"]
    assert state["orderByKey"] == "metrics.`best_val_accuracy`"
    assert find_address(client, STUDY).startswith("#/experiments/")


def test_its_end_adds_the_parameters_that_differ(client, tracker):
    run = tracker.open_study(STUDY)
    tracker.close_study(run, summary(shown=("dropout", "units (hidden)"), curves=(0.9, 1.0)))
    state = state_of(tags_of(client)[view_tag(STUDY.id)])
    assert "params.`dropout`" in state["selectedColumns"]
    assert "params.`units _hidden_-664624`" in state["selectedColumns"]
    assert [chart["type"] for chart in state["compareRunCharts"]] == ["LINE", "PARALLEL", "SCATTER"]
    assert state["compareRunCharts"][0]["range"] == {"yMin": 0.9, "yMax": 1.0}


def test_a_study_of_an_earlier_version_gets_its_view_when_its_address_is_asked_for(client, tracker):
    run = tracker.open_study(STUDY)
    experiment = client.get_run(run).info.experiment_id
    client.delete_experiment_tag(experiment, view_tag(STUDY.id))
    assert find_address(client, STUDY)
    assert view_tag(STUDY.id) in tags_of(client)


def test_a_study_that_mlflow_does_not_have_has_no_address(client):
    assert find_address(client, STUDY) == ""


def test_what_is_minimised_is_sorted_from_below():
    record = study_record(objective="val_loss")
    state = state_of(make_view(record, "run", None, 0))
    assert state["orderByAsc"] is True
    assert state["orderByKey"] == "metrics.`best_val_loss`"


def test_a_view_of_many_long_names_fits_into_a_tag():
    names = tuple(f"{'parameter' * 20}_{number}" for number in range(200))
    assert len(make_view(STUDY, "r" * 32, summary(shown=names), 0)) < 20_000


def test_a_store_that_refuses_it_costs_nothing(client, tracker, monkeypatch):
    asked = []

    def refuse(*given):
        asked.append(given)
        raise MlflowException("no tags here")

    run = tracker.open_study(STUDY)
    monkeypatch.setattr(client, "set_experiment_tag", refuse)
    save_view(client, client.get_run(run).info.experiment_id, STUDY, run, summary())
    assert len(asked) == 1


def test_the_study_of_a_view_is_known_by_its_tag():
    assert study_of(view_tag("0123")) == "0123"
    assert study_of("mlflow.sharedViewState.of-somebody") is None


def test_the_page_of_a_study_links_to_its_view_report_and_best_runs(client, tracker):
    run = tracker.open_study(STUDY)
    tracker.close_study(run, summary(note="**Good.**", links={"trial 4": "abc"}))
    note = client.get_run(run).data.tags["mlflow.note.content"]
    assert note.startswith("**Good.**")
    for words in ("[all trials](#/", "[charts](#/", "artifacts/report.html", "runs/abc"):
        assert words in note


def test_a_report_is_an_artifact_of_the_study_and_names_the_champion(client, tracker, tmp_path):
    run = tracker.open_study(STUDY)
    (tmp_path / "report.html").write_text("<p>")
    tracker.log_report(STUDY, tmp_path / "report.html", summary(champion="tiny-fnn/3"))
    assert [each.path for each in client.list_artifacts(run)] == ["report.html"]
    note = client.get_run(run).data.tags["mlflow.note.content"]
    assert "[champion tiny-fnn/3](#/models/tiny-fnn/versions/3)" in note


def test_the_champion_of_a_study_is_found_by_its_id(client):
    client.create_registered_model("tiny-fnn")
    for study in ("other", STUDY.id):
        client.create_model_version(
            "tiny-fnn", source="file:///nowhere", tags={"mnist_lab.study_id": study}
        )
    assert find_champion(client, STUDY) == ""
    client.set_registered_model_alias("tiny-fnn", "champion", "2")
    assert find_champion(client, STUDY) == "tiny-fnn/2"


@needs_chromium
def test_mlflow_opens_the_view_on_the_trials_of_the_study_best_first(settings, client, tracker):
    run = tracker.open_study(STUDY)
    for number, value in enumerate((0.5, 0.9, 0.7)):
        trial = tracker.open_trial(STUDY, run, trial_record(number, params={"dropout": 0.1}))
        tracker.log_epochs(trial, (epoch_metrics(1, value),))
        tracker.close_trial(trial, outcome(scalars={"best_val_accuracy": value}))
    tracker.close_study(run, summary(shown=("dropout",)))
    port = free_port()
    server = subprocess.Popen(
        server_command(settings, port), env=server_environment(), stderr=subprocess.DEVNULL
    )
    try:
        base = f"http://127.0.0.1:{port}"
        wait_for(f"{base}/health")
        with chromium() as browser:
            watched = watch(browser, 1500)
            watched.page.goto(f"{base}/{find_address(client, STUDY)}")
            rows = watched.page.get_by_role("link", name="trial-0")
            rows.nth(2).wait_for(timeout=60_000)
            assert [row.inner_text() for row in rows.all()] == [
                "trial-0001", "trial-0002", "trial-0000",
            ]  # fmt: skip
            watched.page.goto(f"{base}/{find_address(client, STUDY, charts=True)}")
            watched.page.get_by_text("Parallel Coordinates").first.wait_for(timeout=60_000)
    finally:
        server.terminate()
        server.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for(url):
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(url)
