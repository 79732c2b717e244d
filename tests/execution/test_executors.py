"""What every executor promises: the same tests for local workers, the inline one, Ray's and the fake.

One of another package is tested by its entry point, if its workers find the module ``fakes`` beside
these tests: ``pytest tests/execution/test_executors.py --executor NAME``.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback

import pytest

from fakes import FakeExecutor
from mnist_lab.execution import (
    Decision,
    EpochFinished,
    ExecutorSpec,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialPaused,
    TrialStarted,
    make_executor,
)

ENDS = TrialFinished | TrialPaused | TrialFailed


OTHER = pytest.param(
    "other", marks=pytest.mark.skipif("not config.getoption('--executor')", reason="not asked for")
)
RAY = pytest.param("ray", marks=pytest.mark.slow)


@pytest.fixture(params=["local", "inline", "fake", RAY, OTHER])
def kind(request):
    return request.param


@pytest.fixture
def make(kind, shared_data, tmp_path, monkeypatch, request):
    name = {
        "ray": lambda: request.getfixturevalue("cluster").address,
        "other": lambda: request.config.getoption("--executor"),
    }.get(kind, lambda: kind)()
    monkeypatch.setenv("KERAS_BACKEND", "none")  # the fake trainer needs no TensorFlow
    monkeypatch.setattr("mnist_lab.execution.inline.configure", lambda _: None)
    made = []

    def make(trainer="fakes:run_trial"):
        spec = ExecutorSpec(
            at_most=1, workers=1, device="cpu", dataset=shared_data, work=tmp_path, trainer=trainer
        )
        executor = FakeExecutor() if kind == "fake" else make_executor(name, spec)
        made.append(executor)
        executor.start()
        return executor

    yield make
    for executor in made:
        executor.close()


@pytest.fixture
def job(tmp_path):
    def job(trial=0, **params):
        return TrialJob(
            trial=trial,
            study="s",
            space="fnn",
            space_digest="",
            params=params,
            epochs=3,
            seed=0,
            folder=str(tmp_path / f"trial-{trial}"),
        )

    return job


def run(executor, decide=lambda epochs: Decision.GO_ON):
    """All events until one trial has ended, its epochs answered by ``decide``."""
    events = []
    while not (events and isinstance(events[-1], ENDS)):
        event = executor.next_event(120)
        assert event is not None, "no event in 120 s"
        events.append(event)
        if isinstance(event, EpochFinished):
            executor.decide(event.trial, decide(event.epochs))
    return events


def test_a_trial_is_started_reported_epoch_by_epoch_and_finished(make, job):
    executor = make()
    executor.submit(job())
    events = run(executor)
    assert isinstance(events[0], TrialStarted)
    assert [len(each.epochs) for each in events[1:-1]] == [1, 2, 3]
    assert isinstance(events[-1], TrialFinished)
    assert {event.trial for event in events} == {0}


def test_a_trial_that_is_paused_ends_with_that_epoch(make, job):
    executor = make()
    executor.submit(job())
    events = run(executor, lambda epochs: Decision.GO_ON if len(epochs) < 2 else Decision.PAUSE)
    assert isinstance(events[-1], TrialPaused)
    assert len(events[-2].epochs) == 2


def test_a_paused_trial_goes_on_where_it_was_left_and_says_so_first(make, job):
    executor = make()
    executor.submit(job())
    run(executor, lambda epochs: Decision.PAUSE)
    executor.submit(job())
    events = run(executor)
    assert [len(event.epochs) for event in events[1:-1]] == [1, 2, 3]
    assert isinstance(events[-1], TrialFinished)


def test_trials_run_one_after_another_in_one_slot(make, job):
    executor = make()
    assert executor.slots == 1
    for number in range(3):
        executor.submit(job(number))
        assert isinstance(run(executor)[-1], TrialFinished)


def test_a_trial_that_is_killed_ends_with_the_given_reason(make, job):
    executor = make()
    executor.submit(job())
    while not isinstance(executor.next_event(120), EpochFinished):
        pass
    why = TrialFailed(trial=0, reason="timeout", detail="longer than 1 s")
    executor.kill(why)
    assert executor.next_event(120) == why
    executor.submit(job(1))
    assert isinstance(run(executor)[-1], TrialFinished)


def test_a_kill_after_the_end_changes_nothing(make, job):
    executor = make()
    executor.submit(job())
    run(executor)
    executor.kill(TrialFailed(trial=0, reason="timeout", detail="too late"))
    executor.submit(job(1))
    events = run(executor)
    assert {event.trial for event in events} == {1}
    assert isinstance(events[-1], TrialFinished)


def test_an_answer_to_a_trial_that_was_killed_is_ignored(make, job):
    executor = make()
    executor.submit(job())
    while not isinstance(executor.next_event(120), EpochFinished):
        pass
    executor.kill(TrialFailed(trial=0, reason="timeout", detail="longer than 1 s"))
    executor.decide(0, Decision.GO_ON)
    assert isinstance(executor.next_event(120), TrialFailed)


def test_without_an_event_waiting_ends_with_none(make):
    assert make().next_event(0.05) is None


def test_closing_twice_is_safe_and_leaves_no_worker(make, job):
    executor = make()
    executor.submit(job())
    executor.close()
    executor.close()
    children = {each.name for each in multiprocessing.active_children()}
    threads = {each.name for each in threading.enumerate()}
    assert not {"mnist-lab worker 0", "trial 0"} & (children | threads)


@pytest.mark.parametrize("kind", ["local", "inline", RAY], indirect=True)
def test_a_failure_that_the_trainer_reports_is_passed_on(make, job):
    executor = make()
    executor.submit(job(behaviour="fail"))
    assert run(executor)[-1].reason == "diverged"


@pytest.mark.parametrize("kind", ["local", "inline", RAY], indirect=True)
def test_an_exception_in_a_trainer_is_a_crash(make, job, monkeypatch):
    monkeypatch.setattr(traceback, "print_exc", lambda: None)
    executor = make()
    executor.submit(job(behaviour="raise"))
    assert run(executor)[-1].reason == "crashed"


@pytest.mark.parametrize("kind", ["inline"], indirect=True)
def test_an_inline_trial_runs_in_the_callers_process(make, job):
    executor = make("fakes:run_signed_trial")
    executor.submit(job())
    assert run(executor)[-1].scalars["pid"] == os.getpid()


@pytest.mark.parametrize("kind", ["inline"], indirect=True)
def test_a_trial_that_was_given_up_leaves_its_thread_with_its_next_report(make, job):
    executor = make()
    executor.submit(job())
    while not isinstance(executor.next_event(120), EpochFinished):
        pass
    thread = next(each for each in threading.enumerate() if each.name == "trial 0")
    executor.kill(TrialFailed(trial=0, reason="timeout", detail="longer than 1 s"))
    thread.join(120)
    assert not thread.is_alive()
