"""``LocalExecutor``: long-lived worker processes on this machine."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mnist_lab.errors import ServiceError
from mnist_lab.execution.forkserver import end_process, start_process
from mnist_lab.execution.messages import (
    EpochFinished,
    Event,
    FailureReason,
    ParameterAsked,
    Reply,
    TrialBuilt,
    TrialFailed,
    TrialJob,
    TrialStarted,
)
from mnist_lab.execution.resources import GIBIBYTE, resident_bytes
from mnist_lab.execution.worker import WorkerSpec, work

GRACE_SECONDS = 2.0
# A worker that dies this often without having begun a job will not get better by another start.
MAX_START_FAILURES = 3
# A worker that holds so much more than after its first trial is replaced between two trials. Measured
# growth is in experiments/LOG.md.
GROWTH_BYTES = 1 * GIBIBYTE
MEMORY_CHECK_SECONDS = 1.0
OUT_OF_MEMORY_WORDS = (
    b"std::bad_alloc",
    b"Cannot allocate memory",
    b"out of memory",
    b"pthread_create() failed",  # for want of memory for its stack
)
LAST_WORDS_BYTES = 20_000


@dataclass(kw_only=True)
class _Worker:
    spec: WorkerSpec
    process: BaseProcess
    connection: Connection
    job: TrialJob | None = None
    began: bool = False
    awaits_reply: bool = False
    log_start: int = 0
    bytes_after_first: int = 0
    end: TrialFailed | None = None  # why it is being killed


class LocalExecutor:
    """An executor with one process a ``WorkerSpec``: a fork of the template, or spawned for a GPU.

    A worker that dies takes the trial that it has begun with it, which fails as ``crashed (signal 9)``,
    and another worker takes its place. A trial that it had not begun yet goes to the next free worker.
    One that holds more than ``memory_cap`` bytes is killed, and its trial fails as ``out_of_memory``;
    one that has grown, or has run out of memory, is replaced before its next trial.
    """

    def __init__(self, specs: Sequence[WorkerSpec], *, memory_cap: int | None = None) -> None:
        self._specs = tuple(specs)
        self._memory_cap = memory_cap
        self._memory_checked = 0.0
        self._workers: list[_Worker] = []
        self._events: deque[Event] = deque()
        self._unbegun: deque[TrialJob] = deque()
        self._failed_starts: Counter[int] = Counter()

    @property
    def slots(self) -> int:
        """The number of workers; fewer than specs when one cannot be started any more."""
        return len(self._workers) or len(self._specs)

    def start(self) -> None:
        self._workers = [self._spawn(spec) for spec in self._specs]

    def connect(self, timeout: float) -> bool:
        return True

    def submit(self, job: TrialJob) -> None:
        self._unbegun.append(job)
        self._hand_out()

    def next_event(self, timeout: float) -> Event | None:
        deadline = time.monotonic() + timeout
        while not self._events:
            self._require_workers()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            self._check_memory()
            by_handle: dict[Any, _Worker] = {}
            for worker in self._workers:
                by_handle[worker.connection] = by_handle[worker.process.sentinel] = worker
            # The connection and the sentinel of one worker may both be ready: read it once.
            ready = {
                id(by_handle[handle]): by_handle[handle]
                for handle in wait(by_handle, min(remaining, MEMORY_CHECK_SECONDS))
            }
            for worker in ready.values():
                self._read(worker)
        return self._events.popleft()

    def decide(self, trial: int, reply: Reply) -> None:
        for worker in self._workers:
            if worker.job is not None and worker.job.trial == trial and worker.awaits_reply:
                worker.awaits_reply = False
                self._send(worker, reply)

    def kill(self, why: TrialFailed) -> None:
        waiting = [job for job in self._unbegun if job.trial == why.trial]
        if waiting:
            self._unbegun.remove(waiting[0])
            self._events.append(why)
        for worker in self._workers:
            if worker.job is not None and worker.job.trial == why.trial:
                worker.end = why
                worker.process.kill()

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self._workers:
            if worker.job is not None:
                worker.process.kill()  # it ignores SIGTERM, and what it holds is in the ledger
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.job is None and self._unbegun:
                worker.job = self._unbegun.popleft()
                self._send(worker, worker.job)

    def _send(self, worker: _Worker, message: TrialJob | Reply) -> None:
        # ``next_event`` sees and reports a worker that has just died.
        with suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(message)

    def _require_workers(self) -> None:
        if not self._workers:
            raise ServiceError(
                f"No worker process stays alive. One said: {last_error(self._specs[0].log)}",
                safe="Finished trials are in the study.",
                next_step=f"See all of them: {self._specs[0].log}",
            )

    def _spawn(self, spec: WorkerSpec) -> _Worker:
        log_start = spec.log.stat().st_size if spec.log.exists() else 0
        ours, theirs = Pipe()
        name = f"mnist-lab worker {spec.index}"
        process = start_process(work, spec, theirs, name=name, fresh=spec.runtime.gpu is not None)
        theirs.close()
        return _Worker(spec=spec, process=process, connection=ours, log_start=log_start)

    def _read(self, worker: _Worker) -> None:
        if not worker.connection.poll():  # its template died, which would have reported its end
            self._replace(worker)
            return
        try:
            event: Event = worker.connection.recv()
        except (EOFError, OSError):  # closed, also in the middle of a message
            self._replace(worker)
            return
        self._events.append(event)
        if isinstance(event, TrialStarted):
            worker.began = True
            self._failed_starts[worker.spec.index] = 0
        elif isinstance(event, EpochFinished | ParameterAsked):
            worker.awaits_reply = True
        elif not isinstance(event, TrialBuilt):
            worker.job = None
            worker.began = False
            # A kill that came after the last word was too late, but the worker is dying of it.
            if worker.end is not None or self._has_grown(worker) or _ran_out_of_memory(event):
                self._retire(worker)
            self._hand_out()

    def _replace(self, worker: _Worker) -> None:
        end_process(worker.process, grace=GRACE_SECONDS)
        self._workers.remove(worker)
        worker.connection.close()
        if worker.end is not None and worker.job is not None:
            self._events.append(worker.end)
        elif worker.began and worker.job is not None:
            detail = f"{describe_exit(worker.process.exitcode)}; see {worker.spec.log}"
            starved = _ran_out_of_memory_by(worker.spec.log, since=worker.log_start)
            reason = FailureReason.OUT_OF_MEMORY if starved else FailureReason.CRASHED
            failed = TrialFailed(trial=worker.job.trial, reason=reason, detail=detail)
            self._events.append(failed)
        else:
            if not worker.bytes_after_first:  # one that has served before can start
                self._failed_starts[worker.spec.index] += 1
            if worker.job is not None:
                self._unbegun.appendleft(worker.job)
        if self._failed_starts[worker.spec.index] < MAX_START_FAILURES:
            self._workers.append(self._spawn(worker.spec))
        self._hand_out()

    def _check_memory(self) -> None:
        now = time.monotonic()
        if self._memory_cap is None or now - self._memory_checked < MEMORY_CHECK_SECONDS:
            return
        self._memory_checked = now
        for worker in self._workers:
            held = resident_bytes(worker.process.pid)
            if worker.job is not None and worker.end is None and held > self._memory_cap:
                detail = f"{held:,} bytes in the worker, more than the cap of {self._memory_cap:,}"
                self.kill(
                    TrialFailed(
                        trial=worker.job.trial, reason=FailureReason.OUT_OF_MEMORY, detail=detail
                    )
                )

    def _has_grown(self, worker: _Worker) -> bool:
        held = resident_bytes(worker.process.pid)
        worker.bytes_after_first = worker.bytes_after_first or held
        return held - worker.bytes_after_first > GROWTH_BYTES

    def _retire(self, worker: _Worker) -> None:
        """Let the worker leave by itself, and start another in its place."""
        worker.connection.close()
        self._workers.remove(worker)
        end_process(worker.process, grace=GRACE_SECONDS)
        self._workers.append(self._spawn(worker.spec))


def _ran_out_of_memory(event: Event) -> bool:
    return isinstance(event, TrialFailed) and event.reason == FailureReason.OUT_OF_MEMORY


def _ran_out_of_memory_by(log: Path, *, since: int) -> bool:
    """Whether a worker's last words are those of C++ code that was refused memory: it aborts."""
    if not log.exists():
        return False
    with log.open("rb") as opened:
        opened.seek(max(since, log.stat().st_size - LAST_WORDS_BYTES))
        said = opened.read()
    return any(words in said for words in OUT_OF_MEMORY_WORDS)


def describe_exit(code: int | None) -> str:
    """Return ``crashed (signal 9)`` for a process that a signal ended, ``exited with 1`` otherwise."""
    if code is not None and code < 0:
        return f"crashed (signal {-code}, {signal.Signals(-code).name})"
    return f"exited with {code}"


def last_error(log: Path) -> str:
    """Return the last exception's message in a worker's log, else its last line; empty without one."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return next(reversed(errors or lines), "")
