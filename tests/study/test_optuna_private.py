"""What the supervisor reads from memory is what the database has."""

from __future__ import annotations

import time

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import TrialState

from mnist_lab.search.suggest import suggest
from mnist_lab.settings import Settings
from mnist_lab.study._optuna import SingleWriterStorage
from mnist_lab.study.storage import connect

DISTRIBUTIONS = {
    "x": FloatDistribution(1e-4, 1.0, log=True),
    "n": IntDistribution(1, 9),
    "kind": CategoricalDistribution(("relu", "tanh", True, None)),
}


def facts(study):
    return [
        {**{name: value for name, value in vars(trial).items() if name != "_trial_id"}}
        for trial in study.get_trials()
    ]


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def mirrored(settings):
    """A study of ten trials in every state, written through a mirror."""
    study = optuna.create_study(
        storage=SingleWriterStorage(connect(settings)), study_name="s", direction="maximize"
    )
    study.enqueue_trial({"x": 0.5, "n": 3, "kind": "tanh"}, user_attrs={"baseline": True})
    for number in range(10):
        trial = study.ask()
        for name, distribution in DISTRIBUTIONS.items():
            suggest(trial, name, distribution)
        trial.set_user_attr("start", {"seed": number})
        trial.report(number / 10, 1)
        trial.set_user_attr("history", [number / 10])
        if number < 8:
            state = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)[number % 3]
            value = number / 10 if state == TrialState.COMPLETE else None
            study.tell(number, value, state=state)
    study.set_user_attr("run:3", {"run": "abc"})
    return study


def test_memory_and_database_have_the_same_trials(mirrored, settings):
    again = optuna.load_study(study_name="s", storage=connect(settings))
    assert facts(mirrored) == facts(again)
    assert mirrored.user_attrs == again.user_attrs


@pytest.mark.parametrize("state", TrialState)
def test_trials_by_state_are_those_of_the_database(mirrored, settings, state):
    mirrored.enqueue_trial({"n": 5})
    theirs = optuna.load_study(study_name="s", storage=connect(settings))
    again = optuna.load_study(study_name="s", storage=SingleWriterStorage(connect(settings)))
    expected = [trial.number for trial in theirs.get_trials(states=(state,))]
    assert expected
    for study in (mirrored, again):
        assert [trial.number for trial in study.get_trials(states=(state,))] == expected


def test_a_study_is_read_once(mirrored, monkeypatch):
    reads = []
    monkeypatch.setattr(
        SingleWriterStorage, "_read_trials_from_remote_storage", lambda *_: reads.append(1)
    )
    assert len(mirrored.get_trials()) == 10
    assert mirrored.best_trial.number == 6
    assert reads == []


@pytest.mark.slow
def test_another_mirror_goes_on_with_what_is_there(mirrored, settings):
    study = optuna.load_study(study_name="s", storage=SingleWriterStorage(connect(settings)))
    study.tell(9, 0.99)
    assert study.best_value == 0.99
    assert [trial.number for trial in study.get_trials()] == list(range(10))


def test_what_was_read_before_a_write_does_not_change_by_it(mirrored):
    trial = mirrored.get_trials(deepcopy=False)[9]
    before = dict(trial.user_attrs)
    optuna.Trial(mirrored, trial._trial_id).set_user_attr("new", 1)
    assert trial.user_attrs == before
    assert mirrored.get_trials(deepcopy=False)[9].user_attrs["new"] == 1


@pytest.fixture
def commits(mirrored):
    """One entry for every transaction from now on."""
    seen = []
    engine = mirrored._storage._backend.engine
    sqlalchemy.event.listen(engine, "commit", seen.append)
    return seen


def test_parameters_share_the_transaction_of_what_follows_them(mirrored, settings, commits):
    trial = mirrored.ask()
    commits.clear()
    for name, distribution in DISTRIBUTIONS.items():
        suggest(trial, name, distribution)
    trial.set_user_attr("start", {})
    assert len(commits) == 1
    again = optuna.load_study(study_name="s", storage=connect(settings))
    assert again.get_trials()[10].params == trial.params


def test_an_epoch_is_one_transaction(mirrored, settings, commits):
    trial = optuna.Trial(mirrored, mirrored.get_trials()[9]._trial_id)
    commits.clear()
    trial.report(0.7, 2)
    trial.set_user_attr("history", [0.9, 0.7])
    assert len(commits) == 1
    again = optuna.load_study(study_name="s", storage=connect(settings))
    assert again.get_trials()[9].intermediate_values == {1: 0.9, 2: 0.7}


def test_what_a_sampler_notes_reaches_the_database_and_can_be_changed(mirrored, settings):
    number = mirrored.get_trials()[9]._trial_id
    for value in (1, 2):
        mirrored._storage.set_trial_system_attr(number, "noted", value)
    optuna.Trial(mirrored, number).set_user_attr("next", 1)
    again = optuna.load_study(study_name="s", storage=connect(settings))
    assert again.get_trials()[9].system_attrs["noted"] == 2


def test_a_held_row_that_the_database_refuses_is_no_silence(mirrored):
    storage, number = mirrored._storage, mirrored.get_trials()[9]._trial_id
    storage.set_trial_intermediate_value(number, 1, 0.5)  # it has step 1 already
    with pytest.raises(StorageInternalError, match="UNIQUE"):
        storage.set_trial_user_attr(number, "history", [])


def test_a_state_that_another_writer_has_changed_is_read_again(mirrored, settings):
    mirrored.enqueue_trial({"x": 0.1, "n": 1, "kind": "relu"})
    other = optuna.load_study(study_name="s", storage=connect(settings))
    taken = other.ask()
    assert mirrored.ask().number == taken.number + 1
    assert mirrored.get_trials()[taken.number].state == TrialState.RUNNING


def test_a_database_that_is_lost_after_a_state_was_written_is_an_error_of_the_storage(
    mirrored, monkeypatch
):
    def lose(*_):
        raise sqlalchemy.exc.OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr("mnist_lab.study._optuna.models.TrialModel.find_or_raise_by_id", lose)
    monkeypatch.setattr(_CachedStorage, "set_trial_state_values", lambda *_, **__: True)
    with pytest.raises(StorageInternalError, match="gone"):
        mirrored._storage.set_trial_state_values(
            mirrored.get_trials()[9]._trial_id, TrialState.COMPLETE, [0.5]
        )
    assert mirrored.get_trials()[9].state == TrialState.COMPLETE


@pytest.fixture
def far_from_greenwich(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
def test_a_trials_times_are_the_same_in_memory_and_when_they_are_read(mirrored, settings):
    again = optuna.load_study(study_name="s", storage=connect(settings)).get_trials()[0]
    known = mirrored.get_trials()[0]
    assert (again.datetime_start, again.datetime_complete) == (
        known.datetime_start,
        known.datetime_complete,
    )
    # Another zone would be hours away.
    assert abs(again.datetime_complete.timestamp() - time.time()) < 3600
