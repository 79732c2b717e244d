"""Rows of a study that mnist-lab did not write, and points that somebody queued."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from mnist_lab.config import SweepConfig
from mnist_lab.errors import ServiceError, UnknownNameError
from mnist_lab.publish import sync
from mnist_lab.report import compare, leaderboard, list_studies
from mnist_lab.report.summary import summarise
from mnist_lab.study.open import open_study
from mnist_lab.study.replicas import Design
from mnist_lab.sweep import launch
from mnist_lab.sweep.confirm import confirm
from mnist_lab.tracking import NullTracker


@pytest.fixture
def sweep(settings, small_file, monkeypatch):
    monkeypatch.setattr("mnist_lab.execution.inline.configure", lambda _: None)

    def sweep(trials=3, **changes):
        listener = changes.pop("listener", lambda _: None)
        config = {"space": "fnn", "epochs": 2, "dataset": str(small_file), "study": "s"}
        return launch(
            SweepConfig(**{**config, "executor": "inline", "trials": trials, **changes}),
            settings,
            trainer="fakes:run_trial",
            make_tracker=lambda *_: NullTracker(),
            listener=listener,
        )

    return sweep


@pytest.fixture
def raw(settings):
    """The study as somebody's own script opens it."""
    return lambda: optuna.load_study(study_name="s", storage=settings.storage)


FOREIGN = create_trial(
    params={"lr": 0.1, "units_1": 3, "kind": "lion"},
    distributions={
        "lr": FloatDistribution(0.01, 1.0),
        "units_1": IntDistribution(1, 9, log=True),
        "kind": CategoricalDistribution(("lion", "adam")),
    },
    value=0.999,
)


@pytest.fixture
def mixed(sweep, raw, settings):
    """A study of three trials, to which somebody has added three of his own."""
    sweep()
    for state in (None, TrialState.FAIL, TrialState.PRUNED):
        other = {} if state is None else {"value": None, "state": state}
        raw().add_trial(FOREIGN if state is None else create_trial(**other))
    return open_study(settings, "s")


def test_a_foreign_trial_is_in_no_table_and_no_ranking(mixed, settings):
    assert {row.trial for row in leaderboard(mixed)} <= {0, 1, 2}
    assert len(mixed.ranked()) == len(leaderboard(mixed))
    assert mixed.count_foreign() == 3
    assert summarise(mixed).metrics["trials_failed"] == 0
    assert list_studies(settings)[0].failed == 0


def test_a_foreign_trial_is_named_as_such_when_it_is_asked_for(mixed):
    with pytest.raises(UnknownNameError, match="no trial of study s '3'"):
        compare(mixed, ["0", "3"])


def test_the_sweep_goes_on_to_its_own_total(mixed, sweep, raw):
    result = sweep(trials=6)
    assert (result.finished, result.reasons) == (6, {})
    assert len(raw().trials) == 9


@pytest.mark.only_by_default("cmaes")
@pytest.mark.parametrize("sampler", ["tpe", "qmc", "cmaes", "random"])
def test_no_sampler_learns_from_it(mixed, sweep, sampler):
    assert sweep(trials=14, sampler=sampler).finished == 14


@pytest.mark.slow
def test_it_is_neither_confirmed_nor_synced(mixed, settings):
    _, confirmation = confirm(
        settings, "s", Design(top=5), workers=1,
        trainer="fakes:run_trial", make_tracker=lambda *_: NullTracker(),
    )  # fmt: skip
    assert {row.trial for row in confirmation.rows} <= {0, 1, 2}
    rows = sync(settings, "s", make_tracker=lambda *_: NullTracker())
    assert rows[0].trials == 3


@pytest.mark.only_by_default("point1-learning_rate=55.0 is outside")
@pytest.mark.parametrize(
    ("point", "detail"),
    [
        ({"optimizer": "lion"}, "optimizer='lion' is outside adam | adamw"),
        ({"learning_rate": 55.0}, "learning_rate=55.0 is outside"),
        ({"batch_size": 7.5}, "batch_size=7.5 is outside"),
        ({"units": 64}, "There is no parameter 'units'"),
    ],
)
def test_a_queued_point_that_does_not_fit_fails_and_the_rest_goes_on(sweep, raw, point, detail):
    sweep(trials=2)
    raw().enqueue_trial(point)
    result = sweep(trials=5)
    assert (result.finished, result.reasons) == (5, {"invalid": 1})
    failed = next(trial for trial in raw().trials if trial.state == TrialState.FAIL)
    assert detail in failed.user_attrs["detail"]


def test_a_trial_that_another_program_is_running_is_left_to_it(sweep, raw):
    sweep(trials=2)
    theirs = raw().ask()
    theirs.suggest_float("mine", 0.0, 1.0)
    result = sweep(trials=5)
    assert result.finished == 5
    raw().tell(theirs, 0.5)
    assert raw().trials[theirs.number].params.keys() == {"mine"}


@pytest.mark.only_by_default("tpe-halving", "random-hyperband")
@pytest.mark.parametrize("pruner", ["hyperband", "asha", "median", "none", "halving"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_every_pruner_goes_with_every_sampler(sweep, pruner, sampler):
    result = sweep(trials=8, pruner=pruner, sampler=sampler, epochs=3)
    assert (result.finished, result.reasons) == (8, {})


def test_a_queued_point_against_what_is_set_fails(sweep, raw):
    sweep(trials=1, set={"hidden_layers": 1})
    raw().enqueue_trial({"hidden_layers": 3})
    result = sweep(trials=3, set={"hidden_layers": 1})
    assert result.reasons == {"invalid": 1}
    failed = next(trial for trial in raw().trials if trial.state == TrialState.FAIL)
    assert "--set keeps it at 1" in failed.user_attrs["detail"]


def test_a_queued_value_that_has_no_meaning_in_its_point_is_left_out(sweep, raw):
    sweep(trials=2)
    raw().enqueue_trial({"hidden_layers": 1, "units_3": 64})
    assert sweep(trials=3).reasons == {}
    assert "units_3" not in raw().trials[2].params


def test_a_waiting_trial_with_a_range_of_its_own_fails_alone(sweep, raw):
    sweep(trials=2)
    own = {"shift": IntDistribution(0, 99)}
    raw().add_trial(create_trial(state=TrialState.WAITING, params={"shift": 77}, distributions=own))
    result = sweep(trials=4)
    assert (result.finished, result.reasons) == (4, {"invalid": 1})


def test_a_study_that_is_deleted_while_it_runs_is_one_line(sweep, settings):
    news = []

    def delete(progress):
        news.append(str(progress.news or ""))
        if sum("complete" in each for each in news) == 1 and "complete" in news[-1]:
            optuna.delete_study(study_name="s", storage=settings.storage)

    with pytest.raises(ServiceError, match=r"was deleted while it was swept.*same command again"):
        sweep(trials=4, listener=delete)
    assert sweep(trials=2).finished == 2


SMALL = """
from optuna.distributions import CategoricalDistribution
from mnist_lab.spaces import search_space

@search_space(name="small", version=1, description="2 x 2",
    distributions={"a": CategoricalDistribution((0, 1)), "b": CategoricalDistribution(("x", "y"))},
    defaults={"a": 0, "b": "x"})
def small(params, input_shape, classes):
    raise NotImplementedError
"""


def test_every_point_of_a_small_space_is_tried_before_any_is_tried_twice(sweep, raw, settings):
    (settings.root / "small.py").write_text(SMALL)
    sweep(trials=10, space=str(settings.root / "small.py") + ":small", pruner="none")
    points = [tuple(trial.params.values()) for trial in raw().trials]
    assert set(points[:4]) == {(0, "x"), (0, "y"), (1, "x"), (1, "y")}
    seeds = {trial.seed for trial in open_study(settings, "s").trials()}
    assert len(seeds) == 10  # a point that comes again is trained with another seed


def test_a_point_that_was_tried_often_counts_as_one_configuration(sweep, raw, settings):
    (settings.root / "small.py").write_text(SMALL)
    sweep(trials=10, space=str(settings.root / "small.py") + ":small", pruner="none")
    wanted = Design(top=5).first(open_study(settings, "s"))
    params = [tuple(raw().trials[each.of].params.values()) for each in wanted]
    assert len(params) == len(set(params)) == 4


def test_a_grid_leaves_out_what_has_no_meaning(sweep, raw):
    grid = {"hidden_layers": [1, 2], "units_2": [32, 64]}
    sweep(trials=20, sampler="grid", grid=grid, pruner="none")
    points = [(t.params["hidden_layers"], t.params.get("units_2")) for t in raw().trials]
    assert points == [(2, 128), (1, None), (2, 32), (2, 64)]
