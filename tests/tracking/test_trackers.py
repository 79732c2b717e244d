"""What every tracker must do, and what MLflow then holds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from fakes import (
    Memory,
    epoch_metrics,
    model_record,
    outcome,
    study_record,
    summary,
    trial_record,
    write_files,
)
from mnist_lab.tracking import ExperimentDeletedError, FoundStudy, NullTracker
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.tracking.store import artifact_location

STUDY = study_record()


CONFIRMATION = study_record(id="4567", name="s+confirm", confirms=STUDY.id)


def make_mlflow(request):
    settings, client = request.getfixturevalue("settings"), request.getfixturevalue("client")

    def rows_of(run):
        points = client.get_metric_history(run, "val_accuracy")
        return [(point.step, point.value) for point in points]

    def models_of(run):
        experiment = client.get_run(run).info.experiment_id
        found = client.search_logged_models([experiment])
        return [model.model_id for model in found if model.source_run_id == run]

    tracker = MlflowTracker(client, artifact_location(settings, "e"))
    return SimpleNamespace(tracker=tracker, rows_of=rows_of, models_of=models_of)


def make_memory(_):
    tracker = Memory()
    return SimpleNamespace(
        tracker=tracker,
        rows_of=lambda run: [
            (epoch, each.val_accuracy) for (epoch, _), each in tracker.epochs[run].items()
        ],
        models_of=lambda run: [tracker.logged[run]] if run in tracker.logged else [],
    )


def make_null(_):
    return SimpleNamespace(tracker=NullTracker())


class TestEveryTracker:
    """What the ``Tracker`` protocol says of ids holds for every implementation of it."""

    @pytest.fixture(params=[make_null, make_memory, make_mlflow], ids=["null", "memory", "mlflow"])
    def tracker(self, request):
        return request.param(request).tracker

    def test_a_study_is_opened_again_under_the_same_run(self, tracker):
        assert tracker.open_study(STUDY) == tracker.open_study(STUDY)

    def test_a_trial_is_opened_again_under_the_same_run(self, tracker):
        parent = tracker.open_study(STUDY)
        first = tracker.open_trial(STUDY, parent, trial_record(3))
        assert tracker.open_trial(STUDY, parent, trial_record(3, attempt=2)) == first

    def test_every_trial_has_a_run_of_its_own(self, tracker):
        parent = tracker.open_study(STUDY)
        runs = {tracker.open_trial(STUDY, parent, trial_record(trial)) for trial in range(3)}
        assert len(runs - {parent}) == 3

    def test_a_whole_story_can_be_told_twice(self, tracker, tmp_path):
        write_files(tmp_path)
        ended = outcome(scalars={"a": 1.0}, artifacts=tmp_path / "artifacts")
        models = set()
        for _ in range(2):
            parent = tracker.open_study(STUDY)
            run = tracker.open_trial(STUDY, parent, trial_record())
            tracker.log_epochs(run, (epoch_metrics(1, 0.5),))
            tracker.close_trial(run, ended)
            models.add(tracker.log_model(run, model_record(tmp_path / "model.keras")))
            tracker.close_study(parent, summary())
        assert len(models) == 1
        assert tracker.find_trials(STUDY, parent) in ({}, {0: "complete"})


class TestEveryTrackerThatRemembers:
    """What it says of states and records holds for MLflow and for the fake that stands in for it."""

    @pytest.fixture(params=[make_memory, make_mlflow], ids=["memory", "mlflow"])
    def kept(self, request):
        return request.param(request)

    @pytest.fixture
    def tracker(self, kept):
        return kept.tracker

    @pytest.fixture
    def parent(self, tracker):
        return tracker.open_study(STUDY)

    def test_a_study_that_was_never_opened_is_not_found_and_looking_changes_nothing(self, tracker):
        assert tracker.find_study(STUDY) is None
        assert tracker.find_study(STUDY) is None

    def test_a_study_is_found_under_its_run_and_running_until_it_is_closed(self, tracker, parent):
        assert tracker.find_study(STUDY) == FoundStudy(run=parent, state="running")

    @pytest.mark.parametrize("state", ["complete", "failed", "interrupted"])
    def test_a_closed_study_is_found_in_the_state_of_its_summary(self, tracker, parent, state):
        tracker.close_study(parent, summary(state))
        assert tracker.find_study(STUDY) == FoundStudy(run=parent, state=state)

    def test_a_study_that_is_swept_again_is_running_again(self, tracker, parent):
        tracker.close_study(parent, summary("interrupted"))
        assert tracker.open_study(STUDY) == parent
        assert tracker.find_study(STUDY).state == "running"

    def test_a_study_that_is_only_synced_keeps_its_state(self, tracker, parent):
        tracker.close_study(parent, summary())
        assert tracker.open_study(STUDY, running=False) == parent
        assert tracker.find_study(STUDY).state == "complete"

    def test_the_last_summary_counts(self, tracker, parent):
        tracker.close_study(parent, summary("interrupted"))
        tracker.close_study(parent, summary())
        assert tracker.find_study(STUDY).state == "complete"

    def test_a_study_without_trials_has_none(self, tracker, parent):
        assert tracker.find_trials(STUDY, parent) == {}

    @pytest.mark.parametrize("ended", [None, outcome()], ids=["running", "ended"])
    def test_a_trial_is_running_until_it_is_closed(self, tracker, parent, ended):
        tracker.open_trial(STUDY, parent, trial_record(2, outcome=ended))
        assert tracker.find_trials(STUDY, parent) == {2: "running"}

    @pytest.mark.parametrize("state", ["complete", "pruned", "failed", "interrupted"])
    def test_a_closed_trial_is_found_in_the_state_of_its_outcome(self, tracker, parent, state):
        tracker.close_trial(tracker.open_trial(STUDY, parent, trial_record(2)), outcome(state))
        assert tracker.find_trials(STUDY, parent) == {2: state}

    def test_a_trial_that_goes_on_is_running_again(self, tracker, parent):
        run = tracker.open_trial(STUDY, parent, trial_record())
        tracker.close_trial(run, outcome("interrupted"))
        assert tracker.open_trial(STUDY, parent, trial_record(attempt=2)) == run
        assert tracker.find_trials(STUDY, parent) == {0: "running"}

    def test_an_ended_trial_that_is_opened_again_stays_ended(self, tracker, parent):
        run = tracker.open_trial(STUDY, parent, trial_record())
        tracker.close_trial(run, outcome("pruned"))
        assert tracker.open_trial(STUDY, parent, trial_record(outcome=outcome("pruned"))) == run
        assert tracker.find_trials(STUDY, parent) == {0: "pruned"}

    def test_the_last_outcome_counts(self, tracker, parent):
        run = tracker.open_trial(STUDY, parent, trial_record())
        for state in ("interrupted", "complete", "complete"):
            tracker.close_trial(run, outcome(state))
        assert tracker.find_trials(STUDY, parent) == {0: "complete"}

    def test_a_story_that_is_told_twice_leaves_one_of_everything(
        self, kept, tracker, parent, tmp_path
    ):
        write_files(tmp_path)
        epochs = tuple(epoch_metrics(epoch, epoch / 4) for epoch in (1, 2, 3))
        for _ in range(2):
            run = tracker.open_trial(STUDY, tracker.open_study(STUDY), trial_record())
            tracker.log_epochs(run, epochs[:2])
            tracker.log_epochs(run, epochs)
            tracker.close_trial(run, outcome(artifacts=tmp_path / "artifacts"))
            model = tracker.log_model(run, model_record(tmp_path / "model.keras"))
            tracker.close_study(parent, summary())
        assert kept.rows_of(run) == [(1, 0.25), (2, 0.5), (3, 0.75)]
        assert kept.models_of(run) == [model]
        assert tracker.find_trials(STUDY, parent) == {0: "complete"}
        assert tracker.find_study(STUDY) == FoundStudy(run=parent, state="complete")

    def test_every_model_has_an_id_of_its_own(self, tracker, parent, tmp_path):
        write_files(tmp_path)
        models = set()
        for trial in range(2):
            run = tracker.open_trial(STUDY, parent, trial_record(trial))
            record = model_record(tmp_path / "model.keras", trial=trial)
            models.add(tracker.log_model(run, record))
        assert len(models) == 2

    def test_two_studies_have_their_trials_to_themselves(self, tracker, parent):
        other = study_record(id="89ab")  # of the same name: the first one's study was deleted
        second = tracker.open_study(other)
        assert second != parent
        run = tracker.open_trial(STUDY, parent, trial_record(0))
        assert tracker.open_trial(other, second, trial_record(0)) != run
        tracker.open_trial(other, second, trial_record(1))
        tracker.close_trial(run, outcome())
        tracker.close_study(second, summary("failed"))
        assert tracker.find_trials(STUDY, parent) == {0: "complete"}
        assert tracker.find_trials(other, second) == {0: "running", 1: "running"}
        assert tracker.find_study(STUDY).state == "running"
        assert tracker.find_study(other).state == "failed"

    def test_a_confirmation_of_a_study_that_has_no_run_is_refused(self, tracker):
        with pytest.raises(LookupError):
            tracker.open_study(CONFIRMATION)
        assert tracker.find_study(CONFIRMATION) is None

    def test_a_confirmation_stands_on_the_page_of_its_study_and_leaves_it_as_it_is(
        self, tracker, parent
    ):
        tracker.close_study(parent, summary())
        assert tracker.open_study(CONFIRMATION) == parent
        assert tracker.find_study(CONFIRMATION) == FoundStudy(run=parent, state="complete")
        assert tracker.find_study(STUDY) == FoundStudy(run=parent, state="complete")

    def test_replicas_and_trials_of_one_number_are_told_apart(self, tracker, parent):
        run = tracker.open_trial(STUDY, parent, trial_record(0))
        replica = tracker.open_trial(CONFIRMATION, parent, trial_record(0, replica_of=3))
        assert replica != run
        tracker.close_trial(replica, outcome())
        assert tracker.find_trials(STUDY, parent) == {0: "running"}
        assert tracker.find_trials(CONFIRMATION, parent) == {0: "complete"}


@pytest.fixture
def tracker(settings, client):
    return MlflowTracker(client, artifact_location(settings, "mnist-lab/tiny-fnn"))


@pytest.fixture
def parent(tracker):
    return tracker.open_study(STUDY)


def test_the_experiment_is_named_after_data_and_family_and_opens_on_training(client, parent):
    experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "best_val_accuracy"


def test_artifacts_lie_below_mlruns_of_the_home_folder(client, parent, settings):
    uri = client.get_run(parent).info.artifact_uri
    assert uri.startswith((settings.root / "mlruns").as_uri())


def test_the_parent_carries_settings_data_and_figures(client, tracker, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "class_counts.png").write_bytes(b"png")
    parent = tracker.open_study(STUDY, tmp_path / "dataset")
    run = client.get_run(parent)
    assert run.data.params == dict(STUDY.settings)
    assert [file.path for file in client.list_artifacts(parent)] == ["class_counts.png"]
    contexts = [each.tags[0].value for each in run.inputs.dataset_inputs]
    assert sorted(contexts) == ["train", "validation"]


def test_a_child_is_nested_named_tagged_and_has_flat_params(client, tracker, parent):
    run = client.get_run(tracker.open_trial(STUDY, parent, trial_record(7)))
    assert run.info.run_name == "trial-0007"
    assert run.info.status == "RUNNING"
    assert run.data.params == {"units_1": "32", "activation": "relu", "dropout": "0.1"}
    tags = run.data.tags
    assert tags["mlflow.parentRunId"] == parent
    assert tags["mnist_lab.dataset_digest"] == STUDY.dataset_digest
    expected = {"study": "s", "trial": "7", "seed": "11", "space": "fnn-v1", "attempt": "1"}
    assert {key: tags[f"mnist_lab.{key}"] for key in expected} == expected


def test_the_data_set_is_logged_with_our_digest_of_the_whole_split(client, tracker, parent):
    inputs = client.get_run(tracker.open_trial(STUDY, parent, trial_record())).inputs.dataset_inputs
    by_context = {each.tags[0].value: each.dataset for each in inputs}
    assert by_context["train"].digest == STUDY.splits["train"].sha256[:36]
    profile = json.loads(by_context["validation"].profile)
    assert (profile["images"], profile["sha256"]) == (120, STUDY.splits["validation"].sha256)
    assert profile["classes"] == list("0123456789")


def test_curves_have_one_point_an_epoch_at_its_step(client, tracker, parent):
    run = tracker.open_trial(STUDY, parent, trial_record())
    for epoch, accuracy in ((1, 0.5), (2, 0.75)):
        tracker.log_epochs(run, (epoch_metrics(epoch, accuracy),))
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
def test_a_state_becomes_its_status(client, tracker, parent, state, status):
    run = tracker.open_trial(STUDY, parent, trial_record())
    tracker.close_trial(run, outcome(state=state, reason="why", detail="because"))
    info = client.get_run(run)
    assert info.info.status == status
    assert info.info.end_time is not None
    assert info.data.tags["mnist_lab.state"] == state
    assert info.data.tags["mnist_lab.reason"] == "why"
    assert info.data.tags["mlflow.note.content"] == "because"


def test_the_artifacts_of_a_trial_are_copied_to_its_run(client, tracker, parent, tmp_path):
    write_files(tmp_path)
    run = tracker.open_trial(STUDY, parent, trial_record())
    tracker.close_trial(run, outcome(state="complete", artifacts=tmp_path / "artifacts"))
    assert [file.path for file in client.list_artifacts(run, "figures")] == ["figures/curves.png"]


def test_the_states_that_mlflow_knows_are_listed(tracker, parent):
    first, _ = (tracker.open_trial(STUDY, parent, trial_record(t)) for t in (0, 1))
    tracker.close_trial(first, outcome("pruned"))
    assert tracker.find_trials(study_record(), parent) == {0: "pruned", 1: "running"}


def test_a_run_that_was_made_twice_because_an_answer_was_lost_is_one_again(client, tracker, parent):
    first = tracker.open_trial(STUDY, parent, trial_record(5))
    tags = client.get_run(first).data.tags
    client.create_run(client.get_run(first).info.experiment_id, tags=tags)
    assert tracker.open_trial(STUDY, parent, trial_record(5)) == first
    assert tracker.find_trials(study_record(), parent) == {5: "running"}


def test_a_new_studys_trial_is_searched_for_only_after_it_was_begun(
    client, tracker, parent, monkeypatch
):
    searches, create = [], client.create_run
    monkeypatch.setattr(
        client,
        "search_runs",
        lambda *words, search=client.search_runs, **more: (
            searches.append(words) or search(*words, **more)
        ),
    )

    def lose_the_answer(*words, **more):
        create(*words, **more)
        raise ConnectionError

    monkeypatch.setattr(client, "create_run", lose_the_answer)
    with pytest.raises(ConnectionError):
        tracker.open_trial(study_record(), parent, trial_record())
    assert not searches
    monkeypatch.setattr(client, "create_run", create)
    tracker.open_trial(study_record(), parent, trial_record())
    assert len(searches) == 1
    runs = client.search_runs([client.get_run(parent).info.experiment_id])
    assert len(runs) == 2  # the study's and one of the trial


def test_a_trial_that_goes_on_is_running_again(client, tracker, parent):
    run = tracker.open_trial(STUDY, parent, trial_record())
    tracker.close_trial(run, outcome("interrupted"))
    tracker.open_trial(STUDY, parent, trial_record(attempt=2, retrained=1))
    told = client.get_run(run)
    assert told.info.status == "RUNNING"
    expected = {"state": "running", "attempt": "2", "retrained_epochs": "1"}
    assert {key: told.data.tags[f"mnist_lab.{key}"] for key in expected} == expected


def test_an_ended_trial_that_is_opened_again_stays_ended(client, tracker, parent):
    run = tracker.open_trial(STUDY, parent, trial_record())
    tracker.close_trial(run, outcome())
    tracker.open_trial(STUDY, parent, trial_record(outcome=outcome()))
    assert client.get_run(run).info.status == "FINISHED"


def test_epochs_that_are_sent_twice_are_there_once(client, tracker, parent):
    run = tracker.open_trial(STUDY, parent, trial_record())
    epochs = tuple(epoch_metrics(epoch, 0.1 * epoch) for epoch in (1, 2, 3))
    tracker.log_epochs(run, epochs[:2])
    tracker.log_epochs(run, epochs)
    assert [p.step for p in client.get_metric_history(run, "val_accuracy")] == [1, 2, 3]


def test_a_run_has_the_times_of_its_trial(client, tracker, parent):
    run = tracker.open_trial(STUDY, parent, trial_record(began=1000.5))
    tracker.close_trial(run, outcome(ended=1010.25))
    info = client.get_run(run).info
    assert (info.start_time, info.end_time) == (1_000_500, 1_010_250)


def test_a_model_that_cannot_be_logged_is_not_left_pending(client, tracker, parent, tmp_path):
    run = tracker.open_trial(STUDY, parent, trial_record())
    file = tmp_path / "model.keras"
    file.write_bytes(b"keras")

    def fail(*_):
        raise MlflowException("no space left")

    client.log_model_artifacts = fail
    with pytest.raises(MlflowException):
        tracker.log_model(run, model_record(file))
    experiment = client.get_run(run).info.experiment_id
    assert [str(m.status) for m in client.search_logged_models([experiment])] == ["FAILED"]


def test_the_parent_ends_with_counts_best_note_and_importances(client, tracker, parent, tmp_path):
    told = summary(
        metrics={"trials_complete": 3.0},
        tags={"best_trial": "2"},
        note="**s**",
        importances={"dropout": 0.75, "units_1": 0.25},
    )
    tracker.close_study(parent, told)
    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"trials_complete": 3.0}
    assert run.data.tags["mnist_lab.best_trial"] == "2"
    assert run.data.tags["mlflow.note.content"].startswith("**s**\n\nLinks: [all trials](#/")
    path = client.download_artifacts(parent, "importances.json", str(tmp_path))
    assert json.loads(Path(path).read_text()) == {"dropout": 0.75, "units_1": 0.25}


DELETED = r"'mnist-lab/tiny-fnn' was deleted; type: mlflow experiments restore --experiment-id \d+"


@pytest.mark.parametrize(
    "ask",
    [
        lambda tracker: tracker.open_study(STUDY),
        lambda tracker: tracker.find_study(STUDY),
    ],
    ids=["open", "find"],
)
def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(
    client, tracker, parent, ask
):
    client.delete_experiment(client.get_run(parent).info.experiment_id)
    with pytest.raises(ExperimentDeletedError, match=DELETED):
        ask(tracker)


def test_a_restored_experiment_has_its_runs_again(client, tracker, parent):
    experiment = client.get_run(parent).info.experiment_id
    client.delete_experiment(experiment)
    client.restore_experiment(experiment)
    assert tracker.open_study(STUDY) == parent
