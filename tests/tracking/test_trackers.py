"""What every tracker must do, and what MLflow then holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from fakes import epoch_metrics, write_files
from mnist_lab.tracking import (
    ModelRecord,
    NullTracker,
    StudyRecord,
    StudySummary,
    TrialOutcome,
    TrialRecord,
)
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.tracking.store import artifact_location


@pytest.fixture
def study(small_dataset):
    return StudyRecord(
        name="s",
        family="fnn",
        space="fnn-v1",
        dataset=small_dataset,
        settings={"sampler": "tpe", "epochs": "3"},
    )


def trial_record(study, parent, trial=0, **changes):
    fields = {
        "study": study,
        "parent_run": parent,
        "trial": trial,
        "attempt": 1,
        "params": {"units_1": 32, "activation": "relu", "dropout": 0.1},
        "seed": 11,
        "baseline": trial == 0,
    }
    return TrialRecord(**{**fields, **changes})


class TestEveryTracker:
    """A conformance test for the two implementations of the seam."""

    @pytest.fixture(params=["null", "mlflow"])
    def tracker(self, request):
        if request.param == "null":
            return NullTracker()
        settings, client = request.getfixturevalue("settings"), request.getfixturevalue("client")
        return MlflowTracker(client, artifact_location(settings, "e"))

    def test_a_study_is_opened_again_under_the_same_run(self, tracker, study):
        run = tracker.open_study(study, None)
        assert tracker.open_study(study, run) == run

    def test_every_trial_has_a_run_of_its_own(self, tracker, study):
        parent = tracker.open_study(study, None)
        runs = {tracker.open_trial(trial_record(study, parent, trial)) for trial in range(3)}
        assert len(runs - {parent}) == 3

    def test_a_whole_story_can_be_told(self, tracker, study, tmp_path):
        parent = tracker.open_study(study, None)
        run = tracker.open_trial(trial_record(study, parent))
        tracker.log_epoch(run, epoch_metrics(1, 0.5))
        write_files(tmp_path)
        tracker.close_trial(
            run,
            TrialOutcome(state="complete", scalars={"a": 1.0}, artifacts=tmp_path / "artifacts"),
        )
        model = ModelRecord(
            study="s",
            trial=0,
            file=tmp_path / "model.keras",
            best_epoch=1,
            scalars={"best_val_accuracy": 0.5},
            params={"x": 1},
        )
        assert tracker.log_model(run, model)
        tracker.close_study(
            parent, StudySummary(state="complete", metrics={}, tags={}, note="n", importances={})
        )
        assert tracker.open_runs(parent) == frozenset()


@pytest.fixture
def tracker(settings, client):
    return MlflowTracker(client, artifact_location(settings, "mnist-lab/tiny-fnn"))


@pytest.fixture
def parent(tracker, study):
    return tracker.open_study(study, None)


def test_the_experiment_is_named_after_data_and_family_and_opens_on_training(client, parent):
    experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "best_val_accuracy"


def test_artifacts_lie_below_mlruns_of_the_home_folder(client, parent, settings):
    uri = client.get_run(parent).info.artifact_uri
    assert uri.startswith((settings.root / "mlruns").as_uri())


def test_the_parent_carries_settings_data_and_figures(client, tracker, study, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "class_counts.png").write_bytes(b"png")
    parent = tracker.open_study(
        StudyRecord(**{**vars(study), "figures": tmp_path / "dataset"}), None
    )
    run = client.get_run(parent)
    assert run.data.params == {"sampler": "tpe", "epochs": "3"}
    assert [file.path for file in client.list_artifacts(parent)] == ["class_counts.png"]
    contexts = [each.tags[0].value for each in run.inputs.dataset_inputs]
    assert sorted(contexts) == ["train", "validation"]


def test_a_child_is_nested_named_tagged_and_has_flat_params(client, tracker, study, parent):
    run = client.get_run(tracker.open_trial(trial_record(study, parent, 7)))
    assert run.info.run_name == "trial-0007"
    assert run.info.status == "RUNNING"
    assert run.data.params == {"units_1": "32", "activation": "relu", "dropout": "0.1"}
    tags = run.data.tags
    assert tags["mlflow.parentRunId"] == parent
    assert tags["mnist_lab.dataset_digest"] == study.dataset.digest
    expected = {"study": "s", "trial": "7", "seed": "11", "space": "fnn-v1", "attempt": "1"}
    assert {key: tags[f"mnist_lab.{key}"] for key in expected} == expected


def test_the_data_set_is_logged_with_our_digest_of_the_whole_split(client, tracker, study, parent):
    inputs = client.get_run(tracker.open_trial(trial_record(study, parent))).inputs.dataset_inputs
    by_context = {each.tags[0].value: each.dataset for each in inputs}
    assert by_context["train"].digest == study.dataset.train.digest[:36]
    profile = json.loads(by_context["validation"].profile)
    assert profile == {"images": 120, "sha256": study.dataset.validation.digest}


def test_curves_have_one_point_an_epoch_at_its_step(client, tracker, study, parent):
    run = tracker.open_trial(trial_record(study, parent))
    for epoch, accuracy in ((1, 0.5), (2, 0.75)):
        tracker.log_epoch(run, epoch_metrics(epoch, accuracy))
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        points = client.get_metric_history(run, name)
        assert [point.step for point in points] == [1, 2]
    assert [p.value for p in client.get_metric_history(run, "val_accuracy")] == [0.5, 0.75]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("complete", "FINISHED"),
        ("pruned", "KILLED"),
        ("failed", "FAILED"),
        ("interrupted", "KILLED"),
    ],
)
def test_a_state_becomes_its_status(client, tracker, study, parent, state, status):
    run = tracker.open_trial(trial_record(study, parent))
    tracker.close_trial(run, TrialOutcome(state=state, reason="why", detail="because"))
    info = client.get_run(run)
    assert info.info.status == status
    assert info.info.end_time is not None
    assert info.data.tags["mnist_lab.state"] == state
    assert info.data.tags["mnist_lab.reason"] == "why"
    assert info.data.tags["mlflow.note.content"] == "because"


def test_the_artifacts_of_a_trial_are_copied_to_its_run(client, tracker, study, parent, tmp_path):
    write_files(tmp_path)
    run = tracker.open_trial(trial_record(study, parent))
    tracker.close_trial(run, TrialOutcome(state="complete", artifacts=tmp_path / "artifacts"))
    assert [file.path for file in client.list_artifacts(run, "figures")] == ["figures/curves.png"]


def test_runs_that_are_still_open_are_listed(tracker, study, parent):
    first, second = (tracker.open_trial(trial_record(study, parent, t)) for t in (0, 1))
    tracker.close_trial(first, TrialOutcome(state="complete"))
    assert tracker.open_runs(parent) == {second}


def test_a_model_that_cannot_be_logged_is_not_left_pending(
    client, tracker, study, parent, tmp_path
):
    run = tracker.open_trial(trial_record(study, parent))
    file = tmp_path / "model.keras"
    file.write_bytes(b"keras")

    def fail(*_):
        raise MlflowException("no space left")

    client.log_model_artifacts = fail
    model = ModelRecord(study="s", trial=0, file=file, best_epoch=1, scalars={}, params={})
    with pytest.raises(MlflowException):
        tracker.log_model(run, model)
    experiment = client.get_run(run).info.experiment_id
    assert [str(m.status) for m in client.search_logged_models([experiment])] == ["FAILED"]


def test_the_parent_ends_with_counts_best_note_and_importances(client, tracker, parent, tmp_path):
    summary = StudySummary(
        state="complete",
        metrics={"trials_complete": 3.0},
        tags={"best_trial": "2"},
        note="**s**",
        importances={"dropout": 0.75, "units_1": 0.25},
    )
    tracker.close_study(parent, summary)
    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"trials_complete": 3.0}
    assert run.data.tags["mnist_lab.best_trial"] == "2"
    assert run.data.tags["mlflow.note.content"] == "**s**"
    path = client.download_artifacts(parent, "importances.json", str(tmp_path))
    assert json.loads(Path(path).read_text()) == {"dropout": 0.75, "units_1": 0.25}
