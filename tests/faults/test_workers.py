"""FAULTS 1 to 5: what a worker can do to its trial."""

from __future__ import annotations

import pytest

from .conftest import states, values_by_epoch


def test_a_trial_whose_worker_is_killed_goes_on_from_its_checkpoint(sweep, faults, study, compare):
    faults({"trial": 1, "epoch": 2, "what": "kill"})
    result = sweep()
    trial = study().trial(1)
    assert states(study()) == ["COMPLETE"] * 4
    assert (result.finished, trial.retried) == (4, ("crashed",))
    assert trial.attempt == 2
    assert trial.retrained == 0
    compare()


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_again_and_again_fails_as_crashed(
    sweep, faults, study, client, compare
):
    faults({"trial": 1, "epoch": 2, "what": "kill", "times": 9})
    result = sweep()
    assert states(study()) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert result.reasons == {"crashed": 1}
    compare()
    run = client.get_run(study().find_run(1))
    assert run.data.tags["mnist_lab.reason"] == "crashed"
    assert "signal 9" in run.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_a_worker_that_is_killed_before_its_first_message_leaves_nothing_running(
    sweep, faults, study, compare
):
    faults({"trial": 0, "point": "start", "epoch": 0, "what": "kill", "times": 2})
    sweep(retries=3)
    assert states(study()) == ["COMPLETE"] * 4
    compare()


def test_a_worker_killed_between_checkpoint_and_ledger_costs_no_epoch(
    sweep, faults, study, compare
):
    faults({"trial": 1, "point": "checkpoint", "epoch": 2, "what": "kill"})
    sweep()
    assert list(values_by_epoch(study(), 1)) == [1, 2, 3]
    assert study().trial(1).retrained == 0
    compare()


@pytest.mark.slow
def test_a_segfault_fails_its_trial_and_leaves_the_others_alone(sweep, faults, study, compare):
    faults({"trial": 1, "epoch": 2, "what": "segfault", "times": 9})
    result = sweep(workers=2, retries=0)
    assert result.reasons == {"crashed": 1}
    assert states(study()).count("COMPLETE") == 3
    assert "signal 11" in study().trial(1).detail
    compare()


def test_a_trial_that_hangs_is_ended_by_its_timeout(sweep, faults, study, compare):
    faults({"trial": 1, "epoch": 2, "what": "hang"})  # longer than a test may take
    result = sweep(trial_timeout=10.0)  # the others may take a second on a busy machine
    assert result.reasons == {"timeout": 1}
    assert states(study()).count("COMPLETE") == 3
    compare()


def test_a_worker_that_holds_too_much_is_killed_and_its_trial_retried_once(
    sweep, faults, study, compare
):
    faults({"trial": 1, "epoch": 2, "what": "eat memory", "times": 9})
    result = sweep(worker_memory=450, retries=5)
    trial = study().trial(1)
    assert result.reasons == {"out_of_memory": 1}
    assert trial.retried == ("out_of_memory",)
    assert "more than the cap" in trial.detail
    compare()


def test_a_worker_that_has_grown_is_replaced_between_two_trials(sweep, monkeypatch, study):
    monkeypatch.setattr("mnist_lab.execution.local.GROWTH_BYTES", -1)
    sweep(trainer="fakes:run_signed_trial")
    pids = {trial.scalars["pid"] for trial in study().trials()}
    assert len(pids) == 4


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_no_worker_is_a_fork_of_the_supervisor_whatever_start_method_the_process_has(
    method, sweep, study
):
    import multiprocessing

    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        sweep(trials=1, trainer="fakes:run_clean_trial")
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert states(study()) == ["COMPLETE"]
