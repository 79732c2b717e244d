"""FAULTS 3, 10, 13 and promise 7 with real Keras, in workers with one thread."""

from __future__ import annotations

import re
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_lab.execution import (
    Decision,
    EpochFinished,
    LocalExecutor,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialPaused,
)
from mnist_lab.execution.trial import run_trial
from mnist_lab.execution.worker import WorkerSpec
from mnist_lab.spaces import get_space
from mnist_lab.training import Runtime

SMALL = {
    "fnn": {"units_1": 32, "units_2": 32, "dropout": 0.3},
    "cnn": {"blocks": 1, "filters_1": 8, "dense_units": 32},
}


def make_job(folder, space, trial=0, **params):
    declared = get_space(space)
    return TrialJob(
        trial=trial,
        study="s",
        space=declared.reference,
        space_digest=declared.digest,
        params=declared.point({**SMALL[space], **params}),
        epochs=3,
        seed=5,
        folder=str(folder),
    )


@pytest.fixture
def make_executor(shared_data, tmp_path):
    made = []

    def make(trainer=WorkerSpec.trainer):
        spec = WorkerSpec(
            index=0,
            runtime=Runtime(threads=1),
            dataset=shared_data,
            log=tmp_path / "worker.log",
            trainer=trainer,
        )
        executor = LocalExecutor([spec])
        made.append(executor)
        executor.start()
        return executor

    yield make
    for executor in made:
        executor.close()


def run(executor, job, decide=lambda epochs: Decision.GO_ON):
    """The job's epochs as the worker told them, and its last event."""
    Path(job.folder).mkdir(parents=True, exist_ok=True)
    executor.submit(job)
    epochs = ()
    while True:
        event = executor.next_event(120)
        assert event is not None, f"nothing was heard of {job.folder}"
        if isinstance(event, EpochFinished):
            epochs = event.epochs
            executor.decide(job.trial, decide(epochs))
        elif isinstance(event, TrialFinished | TrialFailed | TrialPaused):
            return epochs, event


def metrics(epochs):
    return [epoch.metrics() for epoch in epochs]


@pytest.mark.slow
def test_a_resumed_trial_equals_an_uninterrupted_one_bit_for_bit(make_executor, tmp_path):
    executor = make_executor()
    whole = {}
    for space in SMALL:
        whole[space] = run(executor, make_job(tmp_path / space, space))
        _, end = run(
            executor,
            make_job(tmp_path / f"{space}-parts", space),
            lambda epochs: Decision.PAUSE if len(epochs) == 2 else Decision.GO_ON,
        )
        assert isinstance(end, TrialPaused)
    executor.close()
    fresh = make_executor()
    for space, (epochs, end) in whole.items():
        again, resumed = run(fresh, make_job(tmp_path / f"{space}-parts", space))
        assert metrics(again) == metrics(epochs)
        assert len(again) == 3
        timed = ("fit_seconds", "latency_ms")
        same = {key: value for key, value in end.scalars.items() if key not in timed}
        assert same == {key: resumed.scalars[key] for key in same}


def test_a_worker_without_memory_fails_its_trial_as_out_of_memory(make_executor, tmp_path):
    executor = make_executor("fakes:run_starved_trial")
    job = make_job(tmp_path / "t", "fnn", units_1=1024, units_2=512)
    _, end = run(executor, job)
    assert isinstance(end, TrialFailed)
    assert end.reason == "out_of_memory", end


def test_a_trial_that_diverges_names_its_epoch(small_dataset, tmp_path):
    job = make_job(tmp_path / "t", "fnn")
    job = replace(job, params={**job.params, "learning_rate": 1e30})
    (tmp_path / "t").mkdir()
    end = run_trial(job, small_dataset, lambda _: True)
    assert isinstance(end, TrialFailed)
    assert (end.reason, end.detail) == ("diverged", "loss is not finite in epoch 1")


def test_a_checkpoint_that_does_not_fit_on_the_disk_fails_its_trial_as_disk_full(
    small_dataset, tmp_path
):
    job = make_job(tmp_path / "t", "fnn")
    (tmp_path / "t").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        end = run_trial(job, small_dataset, lambda _: True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(end, TrialFailed)
    assert end.reason == "disk_full"
    assert re.search(rf"{tmp_path}.* [\d,]+ bytes free", end.detail)
    assert list((tmp_path / "t" / "checkpoints").iterdir()) == []
