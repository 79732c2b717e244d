from __future__ import annotations

import importlib.util

import numpy as np
import optuna
import pytest
import scipy.special
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from mnist_lab.errors import InvalidParamsError, MissingExtraError, UnknownNameError, UsageError
from mnist_lab.search.pruners import PRUNERS, make_pruner
from mnist_lab.search.samplers import SAMPLERS, grid_points, make_sampler
from mnist_lab.search.suggest import suggest
from mnist_lab.spaces import get_space
from mnist_lab.study import view
from mnist_lab.study.seeds import trial_seed

optuna.logging.set_verbosity(optuna.logging.WARNING)
INSTALLED = [name for name in SAMPLERS if name != "gp"]


def ask(name, number, fixed=None):
    space = get_space("cnn")
    study = optuna.create_study(direction="maximize")
    trials = []
    for n in range(number + 1):
        study.sampler = make_sampler(name, seed=5, trial=n, fixed=fixed or {})
        trial = study.ask()
        params = space.draw(
            lambda name, distribution, trial=trial: suggest(trial, name, distribution)
        )
        study.tell(trial, 0.5 + n / 100)
        trials.append(params)
    return trials


@pytest.mark.parametrize("name", INSTALLED)
def test_every_sampler_draws_points_of_the_space(name):
    for params in ask(name, 12):
        get_space("cnn").check(params)


@pytest.mark.parametrize("name", INSTALLED)
def test_the_same_seed_draws_the_same_points(name):
    assert ask(name, 12) == ask(name, 12)


@pytest.mark.parametrize("name", INSTALLED)
def test_different_trials_draw_different_points(name):
    points = [tuple(point.items()) for point in ask(name, 5)]
    assert len(set(points)) == len(points)


def test_scipys_logarithm_of_the_normal_distribution_is_that_of_optuna():
    # A module of its own, because the one that TPE uses may have been given SciPy's already.
    spec = importlib.util.find_spec("optuna.samplers._tpe._truncnorm")
    optunas = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(optunas)
    values = np.concatenate([-np.logspace(0, 4, 500), np.linspace(-5, 12, 500)])
    before = optunas._log_ndtr(values)
    ask("tpe", 0)
    np.testing.assert_allclose(optuna.samplers._tpe._truncnorm._log_ndtr(values), before, rtol=1e-6)
    assert optuna.samplers._tpe._truncnorm._log_ndtr is scipy.special.log_ndtr


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_a_parameter_that_is_set_is_the_same_in_every_trial(name):
    assert {point["blocks"] for point in ask(name, 12, {"blocks": 2})} == {2}


def test_an_unknown_sampler_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'random'"):
        make_sampler("randm", seed=0, trial=0, fixed={})


@pytest.mark.parametrize(("name", "package"), [("gp", "torch"), ("cmaes", "cmaes")])
def test_a_sampler_whose_package_is_missing_says_what_to_install(name, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*mnist-lab\[{name}\]"):
        make_sampler(name, seed=0, trial=0, fixed={})


def test_the_gp_sampler_is_optunas(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    assert isinstance(make_sampler("gp", seed=0, trial=0, fixed={}), optuna.samplers.GPSampler)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_is_optunas(name):
    assert isinstance(make_pruner(name, epochs=9), optuna.pruners.BasePruner)


def test_an_unknown_pruner_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'median'"):
        make_pruner("medium", epochs=3)


def test_seeds_of_trials_differ_and_repeat():
    seeds = [trial_seed(1, trial) for trial in range(100)]
    assert len(set(seeds)) == 100
    assert seeds == [trial_seed(1, trial) for trial in range(100)]
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_grid_is_every_combination_with_all_else_as_in_the_baseline():
    space = get_space("cnn")
    points = list(
        grid_points(space, {"blocks": [1, 2], "dense_units": [32, 64]}, {"pooling": "average"})
    )
    assert [(p["blocks"], p["dense_units"]) for p in points] == [(1, 32), (1, 64), (2, 32), (2, 64)]
    assert {point["pooling"] for point in points} == {"average"}
    assert points[0]["kernel_size"] == space.baseline["kernel_size"]


def test_a_grid_without_values_says_how_to_give_them():
    with pytest.raises(UsageError, match="--grid"):
        list(grid_points(get_space("cnn"), {}, {}))


def test_a_grid_outside_the_space_is_refused():
    with pytest.raises(InvalidParamsError):
        list(grid_points(get_space("cnn"), {"blocks": [9]}, {}))


def failed(reason, **attributes):
    """A study whose last trial failed after a good epoch, as samplers see it."""
    study = optuna.create_study(direction="maximize")
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(0.99, 1)
    trial.set_user_attr("start", {"seed": 0, "attempt": 1, "fruitless": 0, "epochs": 0})
    for name, value in {"reason": reason, **attributes}.items():
        trial.set_user_attr(name, value)
    study.tell(trial, state=TrialState.FAIL)
    return study


@pytest.mark.parametrize("reason", ["out_of_memory", "diverged", "invalid", "infeasible"])
def test_a_failure_of_the_point_is_shown_to_the_sampler_as_the_worst_that_was_pruned(reason):
    study = failed(reason)
    (shown,) = view(study)._get_trials()
    assert (shown.state, shown.intermediate_values) == (TrialState.PRUNED, {})
    assert study.trials[0].state == TrialState.FAIL  # in the ledger it stays what it is


@pytest.mark.parametrize("reason", ["crashed", "timeout", "node_lost", "disk_full", "error"])
def test_a_failure_of_the_moment_tells_the_sampler_nothing(reason):
    (shown,) = view(failed(reason))._get_trials()
    assert shown.state == TrialState.FAIL


def test_a_region_that_fails_is_left():
    def count_failures(*, as_seen):
        failures = 0
        for seed in range(5):
            study = optuna.create_study(direction="maximize")
            for number in range(50):
                sampler = make_sampler("tpe", seed=seed, trial=number, fixed={})
                trial = study.ask()
                shown = view(study) if as_seen else study
                whole = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
                drawn = sampler.sample_relative(
                    shown, trial._get_latest_trial(), sampler.infer_relative_search_space(
                        shown, trial._get_latest_trial())
                )  # fmt: skip
                rng = np.random.default_rng([seed, number])
                x, y = (drawn.get(name, rng.random()) for name in whole)
                for name, value in (("x", x), ("y", y)):
                    study._storage.set_trial_param(trial._trial_id, name, value, whole[name])
                trial.set_user_attr("start", {"seed": 0, "attempt": 1, "fruitless": 0, "epochs": 0})
                if x > 2 / 3:
                    failures += 1
                    trial.set_user_attr("reason", "out_of_memory")
                    study.tell(trial, state=TrialState.FAIL)
                else:
                    study.tell(trial, x - (y - 0.5) ** 2)
        return failures

    assert count_failures(as_seen=True) < 0.7 * count_failures(as_seen=False)


def test_how_far_a_model_is_beyond_a_limit_is_a_constraint_of_the_sampler():
    study = failed("infeasible", measured={"parameters": 300.0, "latency": 1.0})
    (shown,) = view(study, limits={"parameters": 100.0, "latency": 2.0})._get_trials()
    assert shown.constraints == {"parameters": 2.0}
    assert study.trials[0].constraints == {}
