"""Names and values that MLflow would refuse, by themselves and in a whole trial."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from fakes import model_record, outcome, study_record, summary, trial_record
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.tracking.names import LONGEST_NAME, names_tag, renamed, safe_name
from mnist_lab.tracking.store import artifact_location

ODD = {"units (hidden)": 16, "units [hidden]": 17, "../lr": 0.1, "": 1, "x" * 300: 2, "fine": 3}


@given(st.text())
def test_mlflow_takes_every_safe_name(name):
    safe = safe_name(name)
    _validate_param_name(safe)
    _validate_metric_name(safe)
    assert 0 < len(safe) <= LONGEST_NAME
    assert safe_name(safe) == safe


@given(st.lists(st.text(), unique=True))
def test_no_two_names_become_one(names):
    assert len({safe_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["units_1", "a/b", "set.dropout", "ünits 1", "a:b-c"])
def test_a_name_that_mlflow_takes_stays_as_it_is(name):
    assert safe_name(name) == name
    assert renamed([name]) == {}


@pytest.mark.parametrize(
    "name", ["units (hidden)", "a//b", "/a", "../a", ".", "", "a\n", "x" * 251]
)
def test_a_name_that_mlflow_refuses_is_changed(name):
    assert safe_name(name) != name
    assert renamed([name]) == {safe_name(name): name}


def test_a_changed_name_is_the_same_whatever_other_names_there_are():
    assert renamed(["units (hidden)"]).items() <= renamed(ODD).items()


def test_a_tag_of_more_names_than_it_can_hold_is_still_json():
    text = names_tag({str(number): "x" * 100 for number in range(1000)})
    assert 0 < len(json.loads(text)) < 1000
    assert len(text) <= 8000


@pytest.fixture
def tracker(settings, client):
    return MlflowTracker(client, artifact_location(settings, "e"))


def tell(tracker, file, params, **changes):
    """A study of one trial from beginning to end; returns the runs and the logged model."""
    study = study_record(name="a.b", settings={f"set.{name}": "1" for name in params})
    parent = tracker.open_study(study)
    trial = trial_record(params=params)
    run = tracker.open_trial(study, parent, trial)
    tracker.close_trial(run, outcome(scalars={"loss (mean)": 1.0}, **changes))
    file.write_bytes(b"keras")
    record = model_record(file, study="a.b", params=params, scalars={"loss (mean)": 1.0})
    model = tracker.log_model(run, record)
    tracker.close_study(parent, summary(importances=dict.fromkeys(params, 0.5)))
    return parent, run, model


def test_a_trial_with_names_that_mlflow_refuses_is_logged_whole(client, tracker, tmp_path):
    _, run, model = tell(tracker, tmp_path / "m", ODD)
    data = client.get_run(run).data
    expected = {safe_name(name): str(value) for name, value in ODD.items()}
    assert data.params == expected
    assert data.metrics == {safe_name("loss (mean)"): 1.0}
    assert client.get_run(run).info.status == "FINISHED"
    logged = client.get_logged_model(model)
    assert logged.params == expected
    assert (
        json.loads(logged.tags["mnist_lab.names"])[safe_name("units (hidden)")] == "units (hidden)"
    )


@pytest.mark.parametrize("which", [0, 1], ids=["study", "trial"])
def test_a_run_says_in_a_tag_and_in_its_description_which_name_is_which(
    client, tracker, tmp_path, which
):
    run = tell(tracker, tmp_path / "m", ODD)[which]
    tags = client.get_run(run).data.tags
    safe = safe_name("units (hidden)")
    assert json.loads(tags["mnist_lab.names"])[safe] == "units (hidden)"
    assert f"- `{safe}` is `units (hidden)`" in tags["mlflow.note.content"]


def test_what_a_run_said_before_is_still_in_its_description(client, tracker, tmp_path):
    parent, run, _ = tell(tracker, tmp_path / "m", ODD, detail="because")
    notes = [client.get_run(each).data.tags["mlflow.note.content"] for each in (parent, run)]
    assert [note.split("\n")[0] for note in notes] == ["n", "because"]


def test_a_trial_of_names_that_mlflow_takes_has_no_description(client, tracker):
    run = tracker.open_trial(study_record(), tracker.open_study(study_record()), trial_record())
    tracker.close_trial(run, outcome(scalars={"loss": 1.0}))
    tags = client.get_run(run).data.tags
    assert not {"mnist_lab.names", "mlflow.note.content"} & set(tags)


def test_a_value_that_is_too_long_is_cut_and_that_is_said(client, tracker, tmp_path):
    params = {"long": "x" * 7000}
    for _ in "12":  # the second time changes nothing
        _, run, model = tell(tracker, tmp_path / "m", params)
    assert client.get_run(run).data.params["long"] == "x" * 6000
    assert client.get_logged_model(model).params["long"] == "x" * 6000
    assert "the value of `long` is cut" in client.get_run(run).data.tags["mlflow.note.content"]


def test_more_parameters_than_a_request_may_have_are_logged(client, tracker, tmp_path):
    params = {f"p{number}": number for number in range(250)}
    _, run, _ = tell(tracker, tmp_path / "m", params)
    assert len(client.get_run(run).data.params) == 250


def test_a_description_that_is_too_long_is_cut(client, tracker):
    parent = tracker.open_study(study_record())
    tracker.close_study(parent, summary(note="x" * 9000, tags={"t": "y" * 9000}))
    tags = client.get_run(parent).data.tags
    assert len(tags["mlflow.note.content"]) == len(tags["mnist_lab.t"]) == 8000


def test_the_model_of_a_study_with_a_dot_in_its_name_is_logged(client, tracker, tmp_path):
    *_, model = tell(tracker, tmp_path / "m", {"x": 1})
    assert client.get_logged_model(model).name == "a-b-trial-0000"
