from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from fakes import epoch_metrics, finished
from mnist_lab.config import SweepConfig
from mnist_lab.errors import UnknownNameError
from mnist_lab.report import compare, latest_study, leaderboard, list_studies
from mnist_lab.settings import Settings
from mnist_lab.spaces import get_space
from mnist_lab.study.ledger import Tracked
from mnist_lab.study.open import create_study, open_study
from mnist_lab.study.record import make_record
from mnist_lab.study.storage import connect


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def fill(settings, small_dataset):
    """A study whose trials end with the given values; None for a failure."""

    def fill(name, *values):
        record = make_record(name, SweepConfig(space="fnn"), get_space("fnn"), small_dataset)
        pruner = optuna.pruners.NopPruner()
        study = create_study(connect(settings), record, pruner=pruner)
        for number, value in enumerate(values):
            if number == 0:
                study.queue_point({}, baseline=True, defaults=False)
            asked = study.study.ask().number
            study.write(asked).start(seed=0, attempt=1)
            tracked = Tracked(trial=number, run=f"run-{number}", closed=True)
            study.write_tracked(tracked)
            if value is None:
                study.finish(asked, TrialState.FAIL)
                continue
            study.write(asked).result(finished(number, 2, value))
            study.finish(asked, TrialState.COMPLETE, value)
        return study

    return fill


@pytest.fixture
def pair(settings, small_dataset):
    """Two trials: one of three epochs that is complete, one that was pruned after the first."""

    def pair(first, second):
        record = make_record("pair", SweepConfig(space="fnn"), get_space("fnn"), small_dataset)
        pruner = optuna.pruners.NopPruner()
        study = create_study(connect(settings), record, pruner=pruner)
        for number, (units, values) in enumerate([(64, first), (128, second)]):
            study.queue_point({"units": units, "dropout": 0.5}, baseline=False, defaults=False)
            trial = study.study.ask()
            trial.suggest_int("units", 1, 200)
            trial.suggest_float("dropout", 0.0, 1.0)
            study.write(number).start(seed=0, attempt=1)
            epochs = [epoch_metrics(epoch, value) for epoch, value in enumerate(values, start=1)]
            study.write(number).epochs(study.trial(number), epochs)
            if number == 0:
                study.write(number).result(finished(0, len(values), values[-1]))
                study.finish(number, TrialState.COMPLETE, values[-1])
            else:
                study.finish(number, TrialState.PRUNED)
        return open_study(settings, "pair")

    return pair


def test_trials_are_compared_after_the_last_epoch_that_all_have_had(pair):
    found = compare(pair([0.5, 0.8, 0.9], [0.6]), ["0", "1"])
    assert (found.after, found.then) == (1, (0.5, 0.6))
    assert found.facts["state"] == ("complete", "pruned")
    assert found.facts["epochs"] == (3, 1)
    assert found.facts["best_val_accuracy"] == (0.9, 0.6)
    assert found.facts["parameters"][1] is None
    assert found.told_apart is None  # longer is better by itself


def test_parameters_that_differ_are_told_from_those_that_do_not(pair):
    found = compare(pair([0.5], [0.6]), ["0", "1"])
    assert found.differ == {"units": (64, 128)}
    assert found.same == {"dropout": 0.5}


# 120 validation images: two runs of 90 % differ by 5.4 points by chance.
@pytest.mark.parametrize(("second", "told_apart"), [(0.86, False), (0.83, True)])
def test_accuracies_closer_than_the_noise_are_not_told_apart(pair, second, told_apart):
    assert compare(pair([0.9], [second]), ["0", "1"]).told_apart is told_apart


def test_the_leaderboard_has_complete_trials_best_first(fill, settings):
    fill("s", 0.5, 0.9, None, 0.7)
    rows = leaderboard(open_study(settings, "s"))
    assert [(row.rank, row.trial, row.val_accuracy) for row in rows] == [
        (1, 1, 0.9), (2, 3, 0.7), (3, 0, 0.5),
    ]  # fmt: skip
    assert [row.baseline for row in rows] == [False, False, True]
    assert rows[0].run == "run-1"


def test_of_equal_trials_the_earlier_is_first(fill, settings):
    fill("s", 0.5, 0.5)
    assert [row.trial for row in leaderboard(open_study(settings, "s"))] == [0, 1]


def test_the_leaderboard_can_be_cut(fill, settings):
    fill("s", 0.5, 0.9, 0.7)
    assert len(leaderboard(open_study(settings, "s"), top=2)) == 2


def test_studies_are_listed_with_their_counts_and_best(fill, settings):
    fill("first", 0.5, None)
    fill("second", 0.6, 0.8).study.ask()
    first, second = list_studies(settings)
    assert (first.study, first.complete, first.failed) == ("first", 1, 1)
    assert (second.best_trial, second.best_val_accuracy, second.unfinished) == (1, 0.8, 1)


def test_studies_of_others_are_left_out(fill, settings):
    optuna.create_study(storage=settings.storage, study_name="foreign")
    fill("ours", 0.5)
    assert [row.study for row in list_studies(settings)] == ["ours"]


def test_the_latest_study_is_the_one_begun_last(fill, settings):
    fill("first", 0.5)
    fill("second", 0.5)
    fill("first", 0.6)
    assert latest_study(settings) == "second"


def test_without_a_study_the_first_command_is_named(settings):
    with pytest.raises(UnknownNameError, match="mnist-lab sweep cnn"):
        latest_study(settings)


def test_a_trial_is_found_by_its_number_and_the_best_without_one(fill):
    study = fill("s", 0.5, 0.9)
    assert study.find_trial("0").number == 0
    assert study.find_trial("").number == 1
    with pytest.raises(UnknownNameError, match="trial of study s"):
        study.find_trial("7")
