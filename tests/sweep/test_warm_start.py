"""Warm start: what a new study takes from earlier ones."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lab.config import SweepConfig
from mnist_lab.errors import UnknownNameError, UsageError
from mnist_lab.report import describe_warm_points
from mnist_lab.spaces import SearchSpace, get_space
from mnist_lab.study import open_study, study_names
from mnist_lab.sweep import launch
from mnist_lab.sweep.warm_start import MOST_POINTS, _distance, find_warm_points
from studies import make_study


@pytest.fixture
def sweep(settings, small_file, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "none")

    def sweep(**changes):
        config = {
            "space": "fnn",
            "dataset": str(small_file),
            "epochs": 2,
            "workers": 1,
            "pruner": "none",
            **changes,
        }
        launch(SweepConfig(**config), settings, trainer="fakes:run_trial")
        return open_study(settings, config["study"])

    return sweep


STARTS = 1 + len(get_space("fnn").starts)


def test_a_new_study_begins_with_its_own_points_and_then_the_best_of_the_earlier_one(sweep):
    first = sweep(study="first", trials=10)
    second = sweep(study="second", trials=STARTS + 3, seed=9, warm_start="first")
    assert second.trials()[0].baseline
    warm = second.warm_points
    assert {each.study for each in warm} == {"first"}
    assert [dict(trial.params) for trial in second.trials()][STARTS:] == [
        dict(each.point) for each in warm
    ]
    ranks = [trial.number for trial in first.ranked()]
    places = [ranks.index(each.trial) for each in warm]
    assert places == sorted(places)  # the best first, but for what is tried anyway
    assert [each.value for each in warm] == [first.trial(each.trial).value for each in warm]


def test_the_same_command_again_looks_for_no_more_points(sweep):
    sweep(study="first", trials=6)
    before = sweep(study="second", trials=4, warm_start="auto").warm_points
    sweep(study="third", trials=8, seed=5)
    again = sweep(study="second", trials=6, warm_start="auto")
    assert again.warm_points == before
    assert again.count() == 6


def test_no_point_is_queued_beyond_the_total(sweep):
    sweep(study="first", trials=10)
    study = sweep(study="second", trials=STARTS + 1, warm_start="first")
    assert study.count() == STARTS + 1
    assert len(study.warm_points) == 1


def test_a_warm_start_that_finds_no_point_says_so(sweep):
    sweep(study="first", trials=1)  # its baseline, which is tried anyway
    points = sweep(study="second", trials=2, warm_start="first").warm_points
    assert points == ()
    assert "no point far enough" in describe_warm_points(points)
    assert describe_warm_points(None) == ""


def test_without_a_warm_start_nothing_is_taken(sweep):
    sweep(study="first", trials=4)
    assert sweep(study="second", trials=2).warm_points is None


def test_a_study_that_is_not_there_is_refused_and_leaves_none_behind(sweep, settings):
    with pytest.raises(UnknownNameError, match="no study 'ghost'"):
        sweep(study="s", trials=2, warm_start="ghost")
    assert study_names(settings) == []


def test_a_study_of_another_family_is_refused(settings, small_dataset):
    make_study(settings, small_dataset, 5, name="of-fnn")
    with pytest.raises(UsageError, match="not of cnn"):
        find_warm_points("of-fnn", settings, get_space("cnn"), fixed={}, known=[])


def test_a_grid_takes_no_points_of_an_earlier_study(sweep):
    with pytest.raises(UsageError, match="A grid has its own points"):
        sweep(study="s", sampler="grid", grid={"dropout": [0.1]}, warm_start="auto")


def test_points_of_an_earlier_version_are_taken_as_far_as_they_fit(sweep, settings):
    sweep(study="old", space="fnn-v1", trials=8)
    space = get_space("fnn-v2")
    found = find_warm_points("auto", settings, space, fixed={}, known=[])
    assert 0 < len(found) <= MOST_POINTS
    for each in found:
        space.check(each.point)


def test_what_is_set_is_set_in_points_of_earlier_studies_too(sweep, settings):
    sweep(study="first", trials=8)
    found = find_warm_points("first", settings, get_space("fnn"), fixed={"dropout": 0.25}, known=[])
    assert {each.point["dropout"] for each in found} == {0.25}


SPACE = SearchSpace(
    name="s",
    version=1,
    description="",
    distributions={
        "units": IntDistribution(1, 100, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
        "kind": CategoricalDistribution(["a", "b"]),
    },
    defaults={"units": 10, "dropout": 0.0, "kind": "a"},
    build=lambda *_: None,
)


def test_the_distance_of_two_points_is_the_mean_over_their_parameters():
    here = {"units": 1, "dropout": 0.0, "kind": "a"}
    assert _distance(SPACE, here, here) == 0
    assert _distance(SPACE, here, {"units": 100, "dropout": 0.5, "kind": "b"}) == 1
    assert _distance(SPACE, here, {**here, "units": 10}) == pytest.approx(1 / 6)
    assert _distance(SPACE, here, {"units": 1, "kind": "a"}) == pytest.approx(1 / 3)
