"""``RayExecutor``: slots on the machines of a Ray cluster that exists. Ray is not imported here."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from mnist_lab.errors import ServiceError
from mnist_lab.execution.forkserver import end_process, start_process
from mnist_lab.execution.messages import Event, Reply, TrialFailed, TrialJob
from mnist_lab.execution.ray_cluster import require_ray
from mnist_lab.execution.ray_driver import drive
from mnist_lab.execution.ray_messages import (
    Command,
    Decide,
    DriverSpec,
    Kill,
    Message,
    Refused,
    Slots,
    Submit,
)

GRACE_SECONDS = 3.0  # ``ray.shutdown`` takes a second


class RayExecutor:
    """An executor whose workers are actors of a Ray cluster, behind a process that drives it.

    Files travel with the messages: the checkpoint of an epoch, and the artifacts and the model of a
    trial, are in the job's folder on this machine before the event is returned. The slots are the
    actors that have answered, and those that were given back because they were idle.
    """

    def __init__(self, spec: DriverSpec) -> None:
        require_ray()
        self._spec = spec
        self._slots = 1
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._events: deque[Event] = deque()
        self._connected = False

    @property
    def slots(self) -> int:
        return self._slots

    def start(self) -> None:
        ours, theirs = Pipe()
        self._process = start_process(
            drive, self._spec, theirs, name="mnist-lab ray driver", fresh=True
        )
        theirs.close()
        self._connection = ours

    def connect(self, timeout: float) -> bool:
        if not self._connected:
            self._receive(timeout)
        return self._connected

    def submit(self, job: TrialJob) -> None:
        self._send(Submit(job))

    def next_event(self, timeout: float) -> Event | None:
        deadline = time.monotonic() + timeout
        while not self._events:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            self._receive(remaining)
        return self._events.popleft()

    def decide(self, trial: int, reply: Reply) -> None:
        self._send(Decide(trial, reply))

    def kill(self, why: TrialFailed) -> None:
        self._send(Kill(why))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            end_process(self._process, grace=GRACE_SECONDS)
            self._process = None

    def _send(self, command: Command) -> None:
        assert self._connection is not None, "start it first"
        # ``next_event`` sees and reports a driver that has just died.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(command)

    def _receive(self, timeout: float) -> None:
        assert self._connection is not None
        if not self._connection.poll(timeout):
            return
        try:
            message: Message = self._connection.recv()
        except (EOFError, OSError):
            raise ServiceError(
                "The Ray cluster is lost: Ray has ended the process that was connected to it, as it "
                f"does when the head does not answer (see {self._spec.log}).",
                safe="Finished trials and every epoch that was reported are kept.",
                next_step="When a cluster is there again, type the same command again.",
            ) from None
        self._connected = True
        if isinstance(message, Slots):
            self._slots = message.count
        elif isinstance(message, Refused):
            raise message.to_error()
        else:
            self._events.append(message)
