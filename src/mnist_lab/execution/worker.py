"""A worker process, which sets up its share of the machine, maps the data, and runs jobs."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Never, Protocol

from mnist_lab.data import Dataset, map_dataset
from mnist_lab.execution.messages import (
    Answer,
    Decision,
    EpochFinished,
    Event,
    ParameterAsked,
    Reply,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.spaces import ParamValue, Question
from mnist_lab.training import EpochMetrics, Runtime, configure


class Paused(BaseException):
    """The signal to leave a training where it is.

    Not an error: no ``except Exception`` may catch it.
    """


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """The settings of one worker.

    ``trainer`` is ``module:function`` of the type ``RunTrial``; it is a name, because it is imported
    in the worker only. ``dataset`` is a folder of ``data.shared``. ``log`` takes what TensorFlow and
    the trainer print.
    """

    index: int
    runtime: Runtime
    dataset: Path
    log: Path
    trainer: str = "mnist_lab.execution.trial:run_trial"


def work(spec: WorkerSpec, connection: Connection) -> None:
    """Run a worker until the supervisor closes the connection or dies."""
    end_with_parent()
    print_to(spec.log)
    configure(spec.runtime)
    run_trial = load_trainer(spec.trainer)
    dataset = map_dataset(spec.dataset)
    # What was imported stays: a collection that need not look at it takes 10 ms instead of 300.
    gc.freeze()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(connection, run_trial, dataset, worker=spec.index)


def load_trainer(name: str) -> RunTrial:
    """Import ``module:function``."""
    module, _, function = name.partition(":")
    found: RunTrial = getattr(importlib.import_module(module), function)
    return found


def serve(channel: Channel, run_trial: RunTrial, dataset: Dataset, *, worker: int) -> Never:
    """Run the jobs that come through ``channel``, one after another, until it raises an error."""
    while True:
        job: TrialJob = channel.recv()
        channel.send(TrialStarted(trial=job.trial, worker=worker))
        try:
            channel.send(run_trial(job, dataset, Supervised(job.trial, channel)))
        except Paused:
            channel.send(TrialPaused(trial=job.trial))


class Channel(Protocol):
    """One end of a connection to the supervisor."""

    def send(self, event: Event, /) -> None: ...

    def recv(self) -> Any: ...


class Supervised:
    """A trial's connection to the supervisor, which takes each epoch and answers questions.

    Both wait for its reply, and raise ``Paused`` when the trial is to be left.
    """

    def __init__(self, trial: int, connection: Channel) -> None:
        self._trial = trial
        self._connection = connection

    def __call__(self, epochs: Sequence[EpochMetrics]) -> None:
        self._exchange(EpochFinished(trial=self._trial, epochs=tuple(epochs)))

    def ask(self, question: Question) -> ParamValue:
        """Ask the supervisor for the value of a parameter."""
        reply = self._exchange(ParameterAsked(trial=self._trial, question=question))
        assert isinstance(reply, Answer)
        return reply.value

    def send(self, event: Event) -> None:
        """Send an event that needs no reply."""
        self._connection.send(event)

    def _exchange(self, event: Event) -> Reply:
        self._connection.send(event)
        reply: Reply = self._connection.recv()
        if reply is Decision.PAUSE:
            raise Paused
        return reply


RunTrial = Callable[[TrialJob, Dataset, Supervised], TrialFinished | TrialFailed]


def end_with_parent() -> None:
    """Exit at once when the supervisor dies, even in the middle of an epoch: no orphans."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def print_to(log: Path) -> None:
    """Append the output of this process to ``log``."""
    # The file descriptors themselves, because TensorFlow writes to them from C++.
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
