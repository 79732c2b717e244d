"""What the supervisor reads from memory is what the database has."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from mnist_lab.settings import Settings
from mnist_lab.sweep.mirror import Mirror
from mnist_lab.sweep.storage import connect
from mnist_lab.sweep.suggest import suggest

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
        storage=Mirror(connect(settings)), study_name="s", direction="maximize"
    )
    study.enqueue_trial({"x": 0.5, "n": 3, "kind": "tanh"}, user_attrs={"baseline": True})
    for number in range(10):
        trial = study.ask()
        for name, distribution in DISTRIBUTIONS.items():
            suggest(trial, name, distribution)
        trial.set_user_attr("start", {"seed": number})
        trial.report(number / 10, 1)
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


def test_a_study_is_read_once(mirrored, monkeypatch):
    reads = []
    monkeypatch.setattr(Mirror, "_read_trials_from_remote_storage", lambda *_: reads.append(1))
    assert len(mirrored.get_trials()) == 10
    assert mirrored.best_trial.number == 6
    assert reads == []


def test_another_mirror_goes_on_with_what_is_there(mirrored, settings):
    study = optuna.load_study(study_name="s", storage=Mirror(connect(settings)))
    study.tell(9, 0.99)
    assert study.best_value == 0.99
    assert [trial.number for trial in study.get_trials()] == list(range(10))


def test_what_was_read_before_a_write_does_not_change_by_it(mirrored):
    trial = mirrored.get_trials(deepcopy=False)[9]
    before = dict(trial.user_attrs)
    optuna.Trial(mirrored, trial._trial_id).set_user_attr("new", 1)
    assert trial.user_attrs == before
    assert mirrored.get_trials(deepcopy=False)[9].user_attrs["new"] == 1


def test_parameters_are_in_the_database_before_what_follows_them(mirrored, settings):
    trial = mirrored.ask()
    suggest(trial, "x", DISTRIBUTIONS["x"])
    trial.set_user_attr("start", {})
    again = optuna.load_study(study_name="s", storage=connect(settings))
    assert again.get_trials()[10].params == trial.params
