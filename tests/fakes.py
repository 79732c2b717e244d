"""Fakes at the seams: a trainer that needs no Keras, and an executor that needs no processes."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import time
from collections import deque
from pathlib import Path

from mnist_lab.execution import (
    EpochFinished,
    Event,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialStarted,
)
from mnist_lab.training import EpochMetrics


def score(params, epoch):
    """A smooth, deterministic accuracy in [0, 1] with its best at a learning rate near 3e-3."""
    distance = abs(math.log10(float(params.get("learning_rate", 1e-3))) + 2.5)
    return max(0.1, 0.95 - 0.2 * distance) * (1 - 0.5**epoch)


def epoch_metrics(epoch, accuracy):
    return EpochMetrics(
        epoch=epoch,
        loss=1 - accuracy,
        accuracy=accuracy,
        val_loss=1 - accuracy,
        val_accuracy=accuracy,
        seconds=0.01,
        timestamp=time.time(),
    )


def finished(trial, best_epoch, value, *, stopped=False):
    return TrialFinished(
        trial=trial,
        stopped=stopped,
        best_epoch=best_epoch,
        scalars={
            "best_val_accuracy": value,
            "best_val_loss": 1 - value,
            "best_epoch": float(best_epoch),
            "fit_seconds": 0.1,
            "parameters": 100.0,
            "val_auroc_macro": 0.9,
            "val_cross_entropy": 1 - value,
        },
    )


def write_files(folder):
    figures = Path(folder) / "artifacts" / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    (figures / "curves.png").write_bytes(b"png")
    (Path(folder) / "model.keras").write_bytes(b"keras")


def run_trial(job: TrialJob, dataset, go_on):
    """A trainer for real worker processes; ``behaviour`` makes it misbehave."""
    behaviour = job.params.get("behaviour", "fine")
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "segfault":
        ctypes.string_at(0)
    if behaviour == "raise":
        raise RuntimeError("a mistake in a trainer")
    if behaviour == "fail":
        return TrialFailed(
            trial=job.trial, reason="diverged", detail="loss is not finite in epoch 1"
        )
    epoch = 0
    for epoch in range(1, job.epochs + 1):
        time.sleep(float(job.params.get("epoch_seconds", 0.0)))
        if not go_on(epoch_metrics(epoch, score(job.params, epoch))):
            break
    write_files(job.folder)
    return finished(job.trial, epoch, score(job.params, epoch), stopped=epoch < job.epochs)


def run_slow_trial(job: TrialJob, dataset, go_on):
    """As ``run_trial``, with epochs long enough for a test to interrupt it."""
    return run_trial(
        TrialJob(**{**vars(job), "params": {**job.params, "epoch_seconds": 0.25}}), dataset, go_on
    )


class FakeExecutor:
    """Runs jobs in the caller's own thread, one epoch at each call of ``next_event``."""

    def __init__(self, slots=1, *, results=None, on_epoch=None):
        self.slots = slots
        self.jobs: list[TrialJob] = []
        self.results = results or {}
        self.on_epoch = on_epoch or (lambda trial, epoch: None)
        self._events: deque[Event] = deque()
        self._epoch: dict[int, int] = {}

    def start(self):
        pass

    def submit(self, job):
        assert len(self._epoch) < self.slots
        self.jobs.append(job)
        self._epoch[job.trial] = 0
        self._events.append(TrialStarted(trial=job.trial, worker=0))
        if isinstance(self.results.get(job.trial), TrialFailed):
            self._end(job, self.results[job.trial])
        else:
            self._next_epoch(job)

    def next_event(self, timeout):
        return self._events.popleft() if self._events else None

    def decide(self, trial, *, go_on):
        job = next(job for job in reversed(self.jobs) if job.trial == trial)
        done = self._epoch[trial]
        if go_on and done < job.epochs:
            self._next_epoch(job)
            return
        write_files(job.folder)
        value = score(job.params, done)
        result = self.results.get(trial) or finished(trial, done, value, stopped=done < job.epochs)
        self._end(job, result)

    def close(self):
        pass

    def _next_epoch(self, job):
        self._epoch[job.trial] += 1
        epoch = self._epoch[job.trial]
        self.on_epoch(job.trial, epoch)
        metrics = epoch_metrics(epoch, score(job.params, epoch))
        self._events.append(EpochFinished(trial=job.trial, metrics=metrics))

    def _end(self, job, result):
        del self._epoch[job.trial]
        self._events.append(result)


UNLUCKY = 2


def run_unlucky_trial(job: TrialJob, dataset, go_on):
    """As ``run_trial``, but the worker of trial ``UNLUCKY`` dies."""
    if job.trial == UNLUCKY:
        os.kill(os.getpid(), signal.SIGKILL)
    return run_trial(job, dataset, go_on)


def run_failing_trial(job: TrialJob, dataset, go_on):
    """Every trial diverges."""
    return TrialFailed(trial=job.trial, reason="diverged", detail="loss is not finite in epoch 1")
