"""FAULTS 10 to 12 seen from outside: what MLflow holds of trials that went wrong."""

from __future__ import annotations

import math

import pytest

from mnist_lab.study import Stopped, StopReason

from .conftest import states


@pytest.mark.only_by_default("nan")
@pytest.mark.parametrize("value", [math.inf, math.nan, 1.7])
def test_an_impossible_objective_is_refused_and_never_best(
    value, sweep, study, compare, client, monkeypatch
):
    monkeypatch.setenv("IMPOSSIBLE", str(value))
    result = sweep(trainer="fakes:run_impossible_trial")
    assert result.reasons == {"invalid": 1}
    assert result.best.number != 1
    compare()
    run = client.get_run(study().find_run(1))
    assert run.data.tags["mnist_lab.reason"] == "invalid"
    experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn")
    best = client.search_runs(
        [experiment.experiment_id], order_by=["metrics.best_val_accuracy DESC"], max_results=1
    )
    assert best[0].data.metrics["best_val_accuracy"] < 1.0


def test_a_run_whose_trial_diverged_can_be_opened_and_says_in_which_epoch(
    sweep, study, compare, client
):
    result = sweep(trainer="fakes:run_failing_trial", trials=2)
    assert result.stopped == Stopped(StopReason.ALL_FAILED, "all 2 trials failed")
    run = client.get_run(study().find_run(0))
    assert run.info.status == "FAILED"
    assert run.data.tags["mnist_lab.reason"] == "diverged"
    assert "epoch 1" in run.data.tags["mlflow.note.content"]
    compare()


def test_a_sweep_of_which_every_trial_fails_ends_with_a_table_of_reasons(sweep, study):
    result = sweep(trainer="fakes:run_failing_trial", trials=50, max_failures=3)
    assert result.stopped == Stopped(StopReason.FAILURES, "3 trials in a row failed")
    assert result.reasons == {"diverged": 3}
    assert states(study()) == ["FAIL"] * 3
