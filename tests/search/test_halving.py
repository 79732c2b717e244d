"""Successive halving: who goes on, who waits, who is pruned."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from fakes import epoch_metrics
from mnist_lab.search.halving import Halving, SchedulerDecision, rungs_of
from mnist_lab.search.optuna_pruner import make_halving
from mnist_lab.search.seen import SeenPoints
from mnist_lab.search.trial_sampler import TrialSampler


def history(*accuracies):
    return [epoch_metrics(number, each) for number, each in enumerate(accuracies, start=1)]


def standings(trials=9, rungs=(1, 3), **accuracies):
    """Halving without audits, in which ``t0=0.5`` says how trial 0 stood at the first rung."""
    halving = Halving(trials=trials, rungs=rungs, seed=0)
    halving.is_audited = lambda _: False
    for name, accuracy in accuracies.items():
        halving.record(int(name[1:]), history(accuracy))
    return halving


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(1, ()), (2, (1,)), (3, (1,)), (5, (1, 2)), (10, (1, 3)), (30, (1, 3, 10))],
)
def test_rungs_are_thirds_of_the_epochs(epochs, rungs):
    assert rungs_of(epochs) == rungs


@pytest.mark.parametrize(("rungs", "epochs"), [((1, 3), 9 * 1 + 3 * 2 + 1 * 7), ((), 90)], ids=str)
def test_a_third_of_each_rung_is_expected_at_the_next(rungs, epochs):
    assert Halving(trials=9, rungs=rungs, seed=0).expected_epochs(10) == epochs


def test_a_trial_that_is_trained_whole_is_expected_beside_the_others():
    halving = Halving(trials=9, rungs=(1, 3), seed=0, whole=[0])
    assert halving.expected_epochs(10) == 9 * 1 + 3 * 2 + 1 * 7 + 9


def test_the_first_trial_waits_at_its_rung():
    assert standings(t0=0.9).judge(0, 1) is SchedulerDecision.PAUSE


def test_a_trial_that_is_trained_whole_is_not_paused():
    halving = make_halving("halving", trials=9, epochs=10, seed=0, whole=[0])
    for trial, accuracy in enumerate((0.1, 0.9, 0.8, 0.7, 0.6)):
        halving.record(trial, history(accuracy))
    assert halving.judge(0, 1) is SchedulerDecision.GO_ON
    assert halving.judge(4, 1) is not SchedulerDecision.GO_ON


def test_the_best_of_three_goes_on_at_once():
    assert standings(t0=0.5, t1=0.6, t2=0.9).judge(2, 1) is SchedulerDecision.GO_ON


def test_between_rungs_every_trial_goes_on():
    assert standings(t0=0.1, t1=0.9).judge(0, 2) is SchedulerDecision.GO_ON


def test_without_rungs_every_trial_goes_on():
    assert standings(rungs=(), t0=0.1).judge(0, 1) is SchedulerDecision.GO_ON


def test_a_trial_that_has_no_place_left_is_pruned():
    halving = standings(trials=9, t0=0.9, t1=0.8, t2=0.7, t3=0.1)
    assert halving.judge(3, 1) is SchedulerDecision.PRUNE


def test_a_paused_trial_that_is_pushed_out_of_the_places_is_hopeless():
    halving = standings(trials=3, t0=0.5)
    halving.pause(0, 1)
    assert halving.hopeless() == []
    halving.record(1, history(0.9))
    assert halving.hopeless() == [0]


def test_the_best_paused_trial_is_promoted_when_enough_have_come_as_far():
    halving = standings(t0=0.9, t1=0.5)
    halving.pause(0, 1)
    halving.pause(1, 1)
    assert halving.promote(all_asked=False) is None
    halving.record(2, history(0.1))
    assert halving.promote(all_asked=False) == 0
    assert halving.promote(all_asked=False) is None


def test_a_promoted_trial_is_not_paused_again_where_it_was():
    halving = standings(trials=1, t0=0.9)
    halving.pause(0, 1)
    assert halving.promote(all_asked=True) == 0
    assert halving.judge(0, 1) is SchedulerDecision.GO_ON


def test_the_highest_rung_comes_first():
    halving = standings(t0=0.5, t1=0.6, t2=0.9)
    for trial in range(3):
        halving.record(trial, history(0.5, 0.5, 0.5 + trial / 10))
    halving.pause(1, 1)
    halving.pause(2, 3)
    assert halving.promote(all_asked=False) == 2


def test_when_all_were_asked_one_of_each_rung_goes_on():
    halving = standings(trials=2, t0=0.5, t1=0.4)
    halving.pause(0, 1)
    halving.pause(1, 1)
    assert halving.promote(all_asked=True) == 0
    assert halving.promote(all_asked=True) is None


def test_a_trial_stands_by_its_best_epoch_up_to_the_rung():
    halving = standings(rungs=(3,))
    halving.record(0, history(0.1, 0.9, 0.2))
    halving.record(1, history(0.1, 0.2, 0.3))
    halving.record(2, history(0.1, 0.2, 0.4))
    assert halving.judge(0, 3) is SchedulerDecision.GO_ON


def test_a_failed_trial_takes_no_place():
    halving = standings(trials=3, t0=0.9, t1=0.5)
    assert halving.judge(1, 1) is SchedulerDecision.PRUNE
    halving.forget(0)
    assert halving.judge(1, 1) is SchedulerDecision.PAUSE


def test_about_one_trial_in_twenty_is_audited_and_always_the_same():
    halving = Halving(trials=9, rungs=(1,), seed=0)
    audited = [trial for trial in range(2000) if halving.is_audited(trial)]
    assert 60 < len(audited) < 140
    assert audited == [trial for trial in range(2000) if halving.is_audited(trial)]


def test_an_audited_trial_is_not_pruned_but_finished_in_the_end():
    halving = standings(trials=3, t0=0.9, t1=0.1)
    halving.is_audited = lambda trial: trial == 1
    assert halving.judge(1, 1) is SchedulerDecision.PAUSE
    halving.pause(1, 1)
    assert halving.hopeless() == []
    assert halving.audit() == 1
    assert halving.audit() is None
    assert halving.judge(1, 3) is SchedulerDecision.GO_ON


class Seen(optuna.samplers.RandomSampler):
    """Remembers the states of the trials that it is shown."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        shown = study._get_trials(deepcopy=False, states=None, use_cache=True)
        self.states = [each.state for each in shown]
        return super().sample_independent(study, trial, param_name, param_distribution)


def as_the_sweep_has_it(sampler):
    return TrialSampler(lambda _: sampler, SeenPoints(), seed=0, halving=True)


def test_a_sampler_sees_a_measured_trial_as_pruned_and_the_study_does_not():
    seen = Seen()
    study = optuna.create_study(sampler=as_the_sweep_has_it(seen))
    paused, fresh = study.ask(), study.ask()
    paused.suggest_float("x", 0, 1)
    paused.report(0.5, 1)
    fresh.suggest_float("x", 0, 1)
    study.ask().suggest_float("x", 0, 1)
    assert seen.states == [TrialState.PRUNED, TrialState.RUNNING, TrialState.RUNNING]
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING] * 3


def test_tpe_learns_from_paused_trials():
    study = optuna.create_study(direction="maximize")
    for number in range(30):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.report(1 - abs(x - 0.8), 1)
        assert study.trials[number].state == TrialState.RUNNING
    drawn = []
    for seed in range(10):
        study.sampler = as_the_sweep_has_it(optuna.samplers.TPESampler(seed=seed))
        drawn.append(study.ask().suggest_float("x", 0, 1))
    assert sum(abs(x - 0.8) < 0.2 for x in drawn) >= 7
