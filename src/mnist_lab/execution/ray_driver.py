"""The driver of a Ray cluster: a process of its own between the supervisor and the slots.

When a cluster's head dies, Ray's C++ ends the process that is connected to it, without an exception: so
that is not the supervisor. Ray's import, its signal handlers and its output stay here, too, and the
files of trials are written here, before the supervisor is told of their events.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from mnist_lab.data import map_dataset
from mnist_lab.errors import ConfigurationError, MnistLabError, ServiceError, first_line
from mnist_lab.execution.messages import (
    EpochFinished,
    Event,
    FailureReason,
    ParameterAsked,
    TrialBuilt,
    TrialFailed,
    TrialJob,
    TrialStarted,
)
from mnist_lab.execution.parcels import RefusedParcel, pack_checkpoints, pack_sources, unpack
from mnist_lab.execution.ray_cluster import (
    VARIABLES,
    connect_to_cluster,
    count_slots,
    disconnect,
    explain_loss,
    list_nodes,
    plan_slots,
    require_alike,
)
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
from mnist_lab.execution.slot import Slot, SlotFacts, SlotSpec
from mnist_lab.execution.worker import end_with_parent, print_to
from mnist_lab.spaces import is_file_reference, locate_file, source_files

# An idle slot holds its CPU and GPU, and keeps an autoscaler from removing its node.
IDLE_SECONDS = 60.0
GROW_SECONDS = 10.0
TICK_SECONDS = 1.0
MAX_START_FAILURES = 3
_OF_A_DISK = (FailureReason.DISK_FULL, FailureReason.DISK_ERROR)


@dataclass(frozen=True)
class _Closed:
    """The supervisor has closed the connection, or died."""


@dataclass(frozen=True)
class _Answered:
    """An actor's answer to ``call``: a value, or the error that it raised."""

    seat: _Seat
    actor: Any
    call: str
    value: Any = None
    error: BaseException | None = None


@dataclass(eq=False)
class _Seat:
    """A place for an actor; without one it was given back, and is filled again when it is wanted."""

    index: int
    actor: Any = None
    facts: SlotFacts | None = None  # known when it is ready
    job: TrialJob | None = None
    began: bool = False
    awaits_reply: bool = False
    idle_since: float = 0.0
    failed_starts: int = 0
    references: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.facts.host}, process {self.facts.pid}" if self.facts else "a node"


def drive(spec: DriverSpec, connection: Connection) -> None:
    """Run the driver until the supervisor closes the connection or dies."""
    end_with_parent()
    print_to(spec.log)
    os.environ.update(VARIABLES)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal is the supervisor's to answer
    try:
        connect_to_cluster(spec.address)
        driver = _Driver(spec, connection.send)
        threading.Thread(target=driver.read_from, args=(connection,), daemon=True).start()
        driver.run()
    except Exception as error:
        traceback.print_exc()
        known = error if isinstance(error, MnistLabError) else ServiceError(
            f"The Ray driver failed: {first_line(error)}",
            safe="Finished trials and every epoch that was reported are kept.",
            next_step=f"See all of it: {spec.log}",
        )  # fmt: skip
        with suppress(OSError):
            connection.send(Refused.of(known))
    finally:
        disconnect()


class _OtherVersions(Exception):
    """The error of a node with other versions that has joined a running sweep."""


class _Driver:
    def __init__(self, spec: DriverSpec, send: Callable[[Message], None]) -> None:
        import ray

        self._spec, self._send = spec, send
        self._inbox: SimpleQueue[Command | _Answered | _Closed] = SimpleQueue()
        self._unbegun: deque[TrialJob] = deque()
        self._slots = 0
        self._answered = False  # any slot ever has
        self._plan = plan_slots(list_nodes(), spec)
        self._grown = time.monotonic()
        self._dataset = ray.put(map_dataset(spec.dataset))
        self._seats = [_Seat(index) for index in range(self._plan.count)]
        for seat in self._seats:
            self._fill(seat)
        self._tell_slots()

    def read_from(self, connection: Connection) -> None:
        """Put the supervisor's commands into the inbox; in a thread of its own."""
        try:
            while True:
                self._inbox.put(connection.recv())
        except (EOFError, OSError):
            self._inbox.put(_Closed())

    def run(self) -> None:
        """Work off the inbox until the supervisor closes."""
        while True:
            self._give_back_idle()
            self._grow()
            with suppress(Empty):
                item = self._inbox.get(timeout=TICK_SECONDS)
                if isinstance(item, _Closed):
                    break
                self._work_off(item)
        for seat in self._seats:
            self._empty(seat)

    def _work_off(self, item: Command | _Answered) -> None:
        match item:
            case Submit(job=job):
                self._unbegun.append(job)
                self._hand_out()
            case Decide(trial=trial, reply=reply):
                for seat in self._seats:
                    if seat.job is not None and seat.job.trial == trial and seat.awaits_reply:
                        seat.awaits_reply = False
                        self._ask(seat, "next", reply)
            case Kill(why=why):
                self._kill(why)
            case _Answered():
                if item.actor is item.seat.actor:  # else of an actor that was given up
                    self._handle(item)

    # Seats

    def _fill(self, seat: _Seat) -> None:
        """Ask the cluster for an actor; it may wait for a free node."""
        import ray

        spec = SlotSpec(
            index=seat.index,
            threads=self._plan.threads,
            gpu_share=self._plan.share,
            backend=os.environ.get("KERAS_BACKEND", "tensorflow"),
            precision=self._spec.precision,
            trainer=self._spec.trainer,
        )
        options = {
            "num_cpus": self._plan.threads,
            "num_gpus": self._plan.share,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }
        seat.actor = ray.remote(Slot).options(**options).remote(spec, self._dataset)
        seat.facts = None
        self._ask(seat, "hello")

    def _empty(self, seat: _Seat) -> None:
        """End the seat's actor, which may live on behind a broken network."""
        import ray

        actor, seat.actor, seat.facts = seat.actor, None, None
        seat.job, seat.began, seat.awaits_reply = None, False, False
        seat.references.clear()
        if actor is not None:
            with suppress(Exception):
                ray.kill(actor)

    def _ask(self, seat: _Seat, call: str, *given: Any) -> None:
        """Call a method of the actor; its answer comes into the inbox."""
        actor = seat.actor
        reference = getattr(actor, call).remote(*given)
        seat.references[call] = reference  # an answer that nobody refers to is dropped

        def answered(future: Any) -> None:
            error = future.exception()
            value = None if error is not None else future.result()
            self._inbox.put(_Answered(seat, actor, call, value, error))

        reference.future().add_done_callback(answered)

    def _hand_out(self) -> None:
        for seat in self._seats:
            if not self._unbegun:
                break
            if seat.facts is not None and seat.job is None:
                self._begin(seat, self._unbegun.popleft())
        waiting = len(self._unbegun)
        for seat in self._seats:  # those that were given back
            if waiting and seat.actor is None and seat.failed_starts < MAX_START_FAILURES:
                self._fill(seat)
            waiting -= seat.actor is not None and seat.facts is None
        self._tell_slots()

    def _begin(self, seat: _Seat, job: TrialJob) -> None:
        seat.job, seat.began = job, False
        sources: Mapping[str, bytes] = {}
        try:
            if is_file_reference(job.space):
                file = locate_file(job.space)
                sources = pack_sources(source_files(file), file.parent)
            files = pack_checkpoints(Path(job.folder))
        except OSError as error:  # while the space's file is being saved, for example
            seat.job = None
            detail = f"cannot be read: {first_line(error)}"
            self._send(TrialFailed(trial=job.trial, reason=FailureReason.CRASHED, detail=detail))
            return
        self._ask(seat, "begin", job, files, sources)
        self._ask(seat, "next")

    def _give_back_idle(self) -> None:
        now = time.monotonic()
        for seat in self._seats:
            idle = seat.facts is not None and seat.job is None
            if idle and now - seat.idle_since > IDLE_SECONDS:
                self._empty(seat)

    def _grow(self) -> None:
        """Add seats for nodes that have joined, unless their number was given."""
        if self._spec.workers is not None or time.monotonic() - self._grown < GROW_SECONDS:
            return
        self._grown = time.monotonic()
        for index in range(
            len(self._seats), count_slots(list_nodes(), self._spec, self._plan.share)
        ):
            self._seats.append(_Seat(index))
            self._fill(self._seats[-1])

    def _tell_slots(self) -> None:
        """Send the number of jobs that can run at once: actors that answer, and one more to hire.

        Of those that were given back one at a time is hired again: nodes may be gone.
        """
        ready = sum(seat.facts is not None for seat in self._seats)
        starting = any(seat.actor is not None and seat.facts is None for seat in self._seats)
        given_back = any(seat.actor is None and not seat.failed_starts for seat in self._seats)
        count = ready + (given_back and not starting)
        if max(1, count) != self._slots:
            self._slots = max(1, count)
            self._send(Slots(self._slots))

    # Answers

    def _handle(self, answer: _Answered) -> None:
        seat = answer.seat
        if answer.error is not None:
            # What the slot itself raises it would raise elsewhere; a dead actor has begun nothing.
            own = type(answer.error).__name__.startswith("RayTaskError")
            seat.began = seat.began or (answer.call == "begin" and own)
            self._lose(seat, answer.error)
        elif answer.call == "hello":
            try:
                self._require_alike(answer.value)
            except _OtherVersions as error:
                seat.failed_starts = MAX_START_FAILURES - 1  # another try would find the same
                self._lose(seat, error)
                return
            seat.facts, seat.failed_starts, seat.idle_since = answer.value, 0, time.monotonic()
            self._hand_out()
        elif answer.call == "next":
            self._pass_on(seat, *answer.value)

    def _require_alike(self, facts: SlotFacts) -> None:
        """Refuse a cluster of other versions; later, only the node that brings them."""
        try:
            require_alike(facts)
        except ConfigurationError as error:
            if not self._answered:
                raise
            raise _OtherVersions(str(error)) from error
        self._answered = True

    def _pass_on(self, seat: _Seat, event: Event, files: Mapping[str, bytes]) -> None:
        """Write the files of an event, send it, and ask for the next one."""
        assert seat.job is not None
        try:
            unpack(files, Path(seat.job.folder))
        except RefusedParcel as error:
            self._end(seat, FailureReason.ERROR, f"{seat.place}: {error}")
            return
        except OSError as error:
            self._end(seat, FailureReason.DISK_ERROR, f"{seat.job.folder}: {first_line(error)}")
            return
        if isinstance(event, TrialStarted):
            seat.began = True
        if isinstance(event, TrialFailed) and event.reason in _OF_A_DISK:
            # Of the node's own disk, which is no reason to stop the others.
            self._end(seat, FailureReason.NODE_LOST, f"{seat.place}: {event.detail}")
            return
        self._send(event)
        if isinstance(event, EpochFinished | ParameterAsked):
            seat.awaits_reply = True
        elif isinstance(event, TrialStarted | TrialBuilt):
            self._ask(seat, "next")
        else:
            seat.job, seat.began, seat.idle_since = None, False, time.monotonic()
            if isinstance(event, TrialFailed) and event.reason == FailureReason.OUT_OF_MEMORY:
                self._empty(seat)  # it may be full
                self._fill(seat)
            self._hand_out()

    def _end(self, seat: _Seat, reason: FailureReason, detail: str) -> None:
        """Fail the seat's trial, and put another actor in the place of its own."""
        assert seat.job is not None
        self._send(TrialFailed(trial=seat.job.trial, reason=reason, detail=detail))
        self._empty(seat)
        self._fill(seat)
        self._tell_slots()

    def _kill(self, why: TrialFailed) -> None:
        # A job that waits for a place has not used up any of its time.
        waiting = [job for job in self._unbegun if job.trial == why.trial]
        if waiting and why.reason != FailureReason.TIMEOUT:
            self._unbegun.remove(waiting[0])
            self._send(why)
        for seat in self._seats:
            if seat.job is not None and seat.job.trial == why.trial:
                self._end(seat, why.reason, why.detail)

    def _lose(self, seat: _Seat, error: BaseException) -> None:
        """Give an actor up that has failed, whatever the error: it may only be out of reach."""
        reason, detail = explain_loss(error, seat.place)
        traceback.print_exception(error)  # into the log, whole
        if seat.began:
            self._end(seat, reason, detail)
            return
        if seat.job is not None:
            self._unbegun.appendleft(seat.job)
        if seat.facts is None and reason != FailureReason.NODE_LOST:
            seat.failed_starts += 1
        self._empty(seat)
        if seat.failed_starts < MAX_START_FAILURES:
            self._fill(seat)
        elif all(each.failed_starts >= MAX_START_FAILURES for each in self._seats):
            raise ServiceError(
                f"No slot of the cluster starts. One said: {detail}",
                safe="Finished trials are in the study.",
                next_step=f"See all of it: {self._spec.log}",
            )
        self._hand_out()
