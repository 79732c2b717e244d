"""Real worker processes with a trainer that needs no Keras."""

from __future__ import annotations

import os
import signal

import pytest

from mnist_lab.errors import ServiceError
from mnist_lab.execution import (
    Decision,
    EpochFinished,
    FailureReason,
    LocalExecutor,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialPaused,
    TrialStarted,
    WorkerSpec,
)
from mnist_lab.execution.local import describe_exit
from mnist_lab.training import Runtime

MOST_SECONDS = 120  # until a worker says something, on a machine that has other things to do


@pytest.fixture
def make_executor(shared_data, tmp_path, monkeypatch):
    # The fake trainer needs no TensorFlow, and importing it would take ten seconds a worker.
    monkeypatch.setenv("KERAS_BACKEND", "none")
    made = []

    def make(workers=1, trainer="fakes:run_trial", trainers=()):
        specs = [
            WorkerSpec(
                index=index,
                runtime=Runtime(threads=1),
                dataset=shared_data,
                log=tmp_path / f"worker-{index}.log",
                trainer=trainers[index] if trainers else trainer,
            )
            for index in range(workers)
        ]
        executor = LocalExecutor(specs)
        made.append(executor)
        executor.start()
        return executor

    yield make
    for executor in made:
        executor.close()


def job(trial, tmp_path, **params):
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


def events_until_end(executor, trials=1, decide=lambda event: Decision.GO_ON):
    events = []
    while trials:
        event = executor.next_event(MOST_SECONDS)
        assert event is not None, f"no event in {MOST_SECONDS} s"
        events.append(event)
        if isinstance(event, EpochFinished):
            executor.decide(event.trial, decide(event))
        trials -= isinstance(event, TrialFinished | TrialPaused | TrialFailed)
    return events


def test_a_trial_starts_reports_every_epoch_and_finishes(make_executor, tmp_path):
    executor = make_executor()
    executor.submit(job(0, tmp_path))
    events = events_until_end(executor)
    assert isinstance(events[0], TrialStarted)
    assert [len(e.epochs) for e in events if isinstance(e, EpochFinished)] == [1, 2, 3]
    assert isinstance(events[-1], TrialFinished)


def test_a_trial_stops_at_the_epoch_it_is_told_to(make_executor, tmp_path):
    executor = make_executor()
    executor.submit(job(0, tmp_path))
    events = events_until_end(
        executor, decide=lambda event: Decision.GO_ON if len(event.epochs) < 2 else Decision.PAUSE
    )
    assert isinstance(events[-1], TrialPaused)
    assert [len(e.epochs) for e in events if isinstance(e, EpochFinished)] == [1, 2]


def test_a_worker_runs_one_trial_after_another(make_executor, tmp_path):
    executor = make_executor()
    workers = []
    for number in range(3):
        executor.submit(job(number, tmp_path))
        workers.append(executor._workers[0].process.pid)
        events_until_end(executor)
    assert len(set(workers)) == 1


def test_two_workers_run_two_trials_at_once(make_executor, tmp_path):
    executor = make_executor(workers=2)
    executor.submit(job(0, tmp_path))
    executor.submit(job(1, tmp_path))
    events = events_until_end(executor, trials=2)
    assert {event.worker for event in events if isinstance(event, TrialStarted)} == {0, 1}


@pytest.mark.parametrize(
    ("behaviour", "detail"),
    [("kill", "crashed (signal 9, SIGKILL)"), ("segfault", "crashed (signal 11, SIGSEGV)")],
)
def test_a_worker_that_a_signal_ends_fails_its_trial_only(
    make_executor, tmp_path, behaviour, detail
):
    executor = make_executor()
    executor.submit(job(0, tmp_path, behaviour=behaviour))
    failed = events_until_end(executor)[-1]
    assert failed.reason == "crashed"
    assert detail in failed.detail
    executor.submit(job(1, tmp_path))
    assert isinstance(events_until_end(executor)[-1], TrialFinished)


def test_an_exception_in_a_trainer_is_a_crash_whose_log_is_named(make_executor, tmp_path):
    executor = make_executor()
    executor.submit(job(0, tmp_path, behaviour="raise"))
    failed = events_until_end(executor)[-1]
    assert failed.detail.startswith("exited with 1; see ")
    assert "a mistake in a trainer" in (tmp_path / "worker-0.log").read_text()


def test_a_failure_that_the_trainer_reports_costs_no_worker(make_executor, tmp_path):
    executor = make_executor()
    pid = executor._workers[0].process.pid
    executor.submit(job(0, tmp_path, behaviour="fail"))
    assert events_until_end(executor)[-1].reason == "diverged"
    assert executor._workers[0].process.pid == pid


def test_a_trial_that_a_dying_worker_had_not_begun_goes_to_the_next_one(make_executor, tmp_path):
    executor = make_executor()
    os.kill(executor._workers[0].process.pid, signal.SIGKILL)
    executor.submit(job(0, tmp_path))
    assert isinstance(events_until_end(executor)[-1], TrialFinished)


def test_a_worker_leaves_sigterm_to_its_supervisor(make_executor, tmp_path):
    executor = make_executor()
    executor.submit(job(0, tmp_path, epoch_seconds=0.2))
    assert isinstance(executor.next_event(MOST_SECONDS), TrialStarted)
    os.kill(executor._workers[0].process.pid, signal.SIGTERM)
    assert isinstance(events_until_end(executor)[-1], TrialFinished)


def test_a_worker_that_cannot_start_takes_no_trial_from_one_that_can(make_executor, tmp_path):
    executor = make_executor(workers=2, trainers=("no_such_module:run", "fakes:run_trial"))
    for number in range(4):
        executor.submit(job(number, tmp_path))
    ends = [e for e in events_until_end(executor, trials=4) if not isinstance(e, TrialStarted)]
    assert not [event for event in ends if isinstance(event, TrialFailed)]
    while executor.slots == 2:
        executor.next_event(0.2)
    assert executor.slots == 1


def test_workers_that_cannot_start_are_not_started_for_ever(make_executor, tmp_path):
    executor = make_executor(trainer="no_such_module:run")
    with pytest.raises(ServiceError, match=r"No worker process stays alive.*no_such_module"):
        executor.next_event(MOST_SECONDS)


def test_closing_ends_every_worker_even_in_the_middle_of_an_epoch(make_executor, tmp_path):
    executor = make_executor(workers=2)
    executor.submit(job(0, tmp_path, epoch_seconds=600))
    assert isinstance(executor.next_event(MOST_SECONDS), TrialStarted)
    pids = [worker.process.pid for worker in executor._workers]
    executor.close()
    executor.close()  # safe to call twice
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_exit_is_described_by_its_signal_or_its_code():
    assert describe_exit(-9) == "crashed (signal 9, SIGKILL)"
    assert describe_exit(3) == "exited with 3"


def test_a_kill_that_comes_after_the_last_word_loses_neither_this_trial_nor_the_next(
    make_executor, tmp_path
):
    executor = make_executor()
    executor.submit(job(0, tmp_path))
    while True:
        event = executor.next_event(MOST_SECONDS)
        if isinstance(event, EpochFinished):
            executor.decide(0, Decision.GO_ON)
            if len(event.epochs) == 3:
                break
    worker = executor._workers[0]
    assert worker.connection.poll(MOST_SECONDS)  # the result is in the pipe, and not read yet
    executor.kill(TrialFailed(trial=0, reason=FailureReason.TIMEOUT, detail="too late"))
    assert isinstance(executor.next_event(MOST_SECONDS), TrialFinished)
    executor.submit(job(1, tmp_path))
    events = events_until_end(executor)
    assert [event.trial for event in events] == [1] * len(events)
    assert isinstance(events[-1], TrialFinished)
