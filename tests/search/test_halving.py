"""Successive halving: who goes on, who waits, who is pruned."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from fakes import epoch_metrics
from mnist_lab.search import (
    Choice,
    SchedulerDecision,
    SeenPoints,
    TrialSampler,
    make_scheduler,
)
from mnist_lab.search.halving import Halving, rungs_of
from mnist_lab.search.scheduler import NEW_TRIAL
from mnist_lab.study import Ledger

CONTINUE, PAUSE, PRUNE = SchedulerDecision


def decide(halving, trial, *accuracies):
    """What becomes of ``trial`` after its newest epoch."""
    epochs = [epoch_metrics(number, each) for number, each in enumerate(accuracies, start=1)]
    return halving.on_epoch(trial, epochs, len(epochs))


def standings(trials=9, rungs=(1, 3), **accuracies):
    """Halving whose seed audits none of trials 0 to 3; ``t0=0.5``: how trial 0 came out of epoch 1."""
    halving = Halving(trials=trials, epochs=10, rungs=rungs, seed=2)
    for name, accuracy in accuracies.items():
        decide(halving, int(name[1:]), accuracy)
    return halving


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(1, ()), (2, (1,)), (3, (1,)), (5, (1, 2)), (10, (1, 3)), (30, (1, 3, 10))],
)
def test_rungs_are_thirds_of_the_epochs(epochs, rungs):
    assert rungs_of(epochs) == rungs
    assert Halving(trials=9, epochs=epochs, seed=0).rungs == rungs


@pytest.mark.parametrize(("rungs", "epochs"), [((1, 3), 9 * 1 + 3 * 2 + 1 * 7), ((), 90)], ids=str)
def test_a_third_of_each_rung_is_expected_at_the_next(rungs, epochs):
    assert standings(rungs=rungs).expected_epochs() == epochs


def test_a_trial_that_is_exempt_is_expected_beside_the_others():
    halving = Halving(trials=9, epochs=10, rungs=(1, 3), seed=0, exempt=[0])
    assert halving.expected_epochs() == 9 * 1 + 3 * 2 + 1 * 7 + 9


def test_the_first_trial_waits_at_its_rung():
    assert decide(standings(), 0, 0.9) is PAUSE


@pytest.fixture
def ledger():
    return Ledger(optuna.create_study(direction="maximize"))


def test_a_trial_that_is_exempt_is_not_paused(ledger):
    halving = make_scheduler("halving", ledger, trials=9, epochs=10, seed=0, exempt=[0])
    for trial, accuracy in enumerate((0.1, 0.9, 0.8, 0.7, 0.6)):
        decide(halving, trial, accuracy)
    assert decide(halving, 0, 0.1) is CONTINUE
    assert decide(halving, 4, 0.6) is not CONTINUE


def test_the_best_of_three_goes_on_at_once():
    assert decide(standings(t0=0.5, t1=0.6), 2, 0.9) is CONTINUE


def test_between_rungs_every_trial_goes_on():
    assert decide(standings(t0=0.1, t1=0.9), 0, 0.1, 0.2) is CONTINUE


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_without_rungs_every_trial_goes_on(ledger, pruner):
    epochs = {"none": 10, "halving": 1}[pruner]
    scheduler = make_scheduler(pruner, ledger, trials=1, epochs=epochs, seed=0)
    assert not scheduler.pauses
    assert [decide(scheduler, trial, 0.9 - trial / 10) for trial in range(5)] == [CONTINUE] * 5


def test_a_trial_that_has_no_place_left_is_pruned():
    assert decide(standings(trials=9, t0=0.9, t1=0.8, t2=0.7), 3, 0.1) is PRUNE


def test_a_paused_trial_that_is_pushed_out_of_the_places_is_hopeless():
    halving = standings(trials=3, t0=0.5)
    halving.on_pause(0, 1)
    assert halving.hopeless() == []
    decide(halving, 1, 0.9)
    assert halving.hopeless() == [0]


def test_the_best_paused_trial_is_promoted_when_enough_have_come_as_far():
    halving = standings(t0=0.9, t1=0.5)
    halving.on_pause(0, 1)
    halving.on_pause(1, 1)
    assert halving.next(new_wanted=True) == NEW_TRIAL
    decide(halving, 2, 0.1)
    assert halving.next(new_wanted=True) == Choice(0)
    assert halving.next(new_wanted=True) == NEW_TRIAL


def test_a_promoted_trial_is_not_paused_again_where_it_was():
    halving = standings(trials=1, t0=0.9)
    halving.on_pause(0, 1)
    assert halving.next(new_wanted=False) == Choice(0)
    assert decide(halving, 0, 0.9) is CONTINUE


def test_the_highest_rung_comes_first():
    halving = standings(t0=0.5, t1=0.6, t2=0.9)
    for trial in range(3):
        decide(halving, trial, 0.5, 0.5, 0.5 + trial / 10)
    halving.on_pause(1, 1)
    halving.on_pause(2, 3)
    assert halving.next(new_wanted=True) == Choice(2)


def test_when_all_were_asked_one_of_each_rung_goes_on():
    halving = standings(trials=2, t0=0.5, t1=0.4)
    halving.on_pause(0, 1)
    halving.on_pause(1, 1)
    assert halving.next(new_wanted=False) == Choice(0)
    assert halving.next(new_wanted=False) is None


def test_a_trial_stands_by_its_best_epoch_up_to_the_rung():
    halving = standings(rungs=(3,))
    decide(halving, 0, 0.1, 0.9, 0.2)
    decide(halving, 1, 0.1, 0.2, 0.3)
    decide(halving, 2, 0.1, 0.2, 0.4)
    assert decide(halving, 0, 0.1, 0.9, 0.2) is CONTINUE


def test_a_failed_trial_takes_no_place():
    halving = standings(trials=3, t0=0.9)
    assert decide(halving, 1, 0.5) is PRUNE
    halving.on_end(0, failed=True)
    assert decide(halving, 1, 0.5) is PAUSE


def audited(count=2000):
    """Those of the trials 1, 2, ... that wait, though one before them has the only place."""
    halving = standings(trials=1, rungs=(1,), t0=0.9)
    return [trial for trial in range(1, count) if decide(halving, trial, 0.1) is PAUSE]


def test_about_one_trial_in_twenty_is_audited_and_always_the_same():
    found = audited()
    assert 60 < len(found) < 140
    assert audited() == found


def test_an_audited_trial_is_not_pruned_but_finished_in_the_end():
    one = audited(100)[0]
    halving = standings(trials=3, t0=0.9)
    assert decide(halving, one, 0.1) is PAUSE
    halving.on_pause(one, 1)
    assert halving.hopeless() == []
    assert halving.next(new_wanted=False) == Choice(one, audited=True)
    assert halving.next(new_wanted=False) is None
    assert decide(halving, one, 0.1, 0.1, 0.1) is CONTINUE


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
    random = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=random)
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
