"""``LocalExecutor``: long-lived worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from mnist_lab.errors import ServiceError
from mnist_lab.execution.messages import (
    CRASHED,
    EpochFinished,
    Event,
    TrialFailed,
    TrialJob,
    TrialStarted,
)
from mnist_lab.execution.worker import WorkerSpec, work

GRACE_SECONDS = 2.0
# A worker that dies this often before its first job will not get better by being started again.
MAX_START_FAILURES = 3


@dataclass(kw_only=True)
class _Worker:
    spec: WorkerSpec
    process: BaseProcess
    connection: Connection
    trial: int | None = None
    awaits_decision: bool = False


class LocalExecutor:
    """Spawns one process a ``WorkerSpec`` (never forks: TensorFlow does not survive it).

    A worker that dies takes one trial with it: the trial fails as ``crashed (signal 9)`` and another
    worker takes its place.
    """

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self._specs = tuple(specs)
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._events: deque[Event] = deque()
        self._deaths_in_a_row = 0

    @property
    def slots(self) -> int:
        return len(self._specs)

    def start(self) -> None:
        self._workers = [self._spawn(spec) for spec in self._specs]

    def submit(self, job: TrialJob) -> None:
        self._require_workers()
        free = next(worker for worker in self._workers if worker.trial is None)
        free.trial = job.trial
        self._send(free, job)

    def next_event(self, timeout: float) -> Event | None:
        deadline = time.monotonic() + timeout
        while not self._events:
            self._require_workers()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            by_handle: dict[Any, _Worker] = {}
            for worker in self._workers:
                by_handle[worker.connection] = by_handle[worker.process.sentinel] = worker
            # The connection and the sentinel of one worker may both be ready: read it once.
            ready = {
                id(by_handle[handle]): by_handle[handle] for handle in wait(by_handle, remaining)
            }
            for worker in ready.values():
                self._read(worker)
        return self._events.popleft()

    def decide(self, trial: int, *, go_on: bool) -> None:
        for worker in self._workers:
            if worker.trial == trial and worker.awaits_decision:
                worker.awaits_decision = False
                self._send(worker, go_on)

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self._workers:
            if worker.trial is not None:
                worker.process.terminate()
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def _send(self, worker: _Worker, message: TrialJob | bool) -> None:
        # A worker that has just died is seen, and spoken of, by next_event.
        with suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(message)

    def _require_workers(self) -> None:
        if not self._workers:
            raise ServiceError(
                "No worker process stays alive.",
                safe="Finished trials are in the study.",
                next_step=f"See what they said: {self._specs[0].log}",
            )

    def _spawn(self, spec: WorkerSpec) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work, args=(spec, theirs), name=f"mnist-lab worker {spec.index}", daemon=True
        )
        # A child starts with Ctrl-C ignored as its parent has it, or it would die while it imports.
        answer = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, answer)
        theirs.close()
        return _Worker(spec=spec, process=process, connection=ours)

    def _read(self, worker: _Worker) -> None:
        try:
            event: Event = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            self._replace(worker)
            return
        self._deaths_in_a_row = 0
        self._events.append(event)
        if isinstance(event, EpochFinished):
            worker.awaits_decision = True
        elif not isinstance(event, TrialStarted):
            worker.trial = None

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        self._workers.remove(worker)
        worker.connection.close()
        self._deaths_in_a_row += 1
        if worker.trial is not None:
            detail = f"{describe_exit(worker.process.exitcode)}; see {worker.spec.log}"
            self._events.append(TrialFailed(trial=worker.trial, reason=CRASHED, detail=detail))
        if self._deaths_in_a_row <= MAX_START_FAILURES * self.slots:
            self._workers.append(self._spawn(worker.spec))


def describe_exit(code: int | None) -> str:
    """``crashed (signal 9)`` for a process that a signal ended, ``exited with 1`` otherwise."""
    if code is not None and code < 0:
        return f"crashed (signal {-code}, {signal.Signals(-code).name})"
    return f"exited with {code}"
