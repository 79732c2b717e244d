"""The driver of a Ray cluster: a process of its own between the supervisor and the slots.

When a cluster's head dies, Ray's C++ ends the process that is connected to it, without an exception: so
that is not the supervisor. Ray's import, its signal handlers and its output stay here, too, and the
files of trials are written here, before the supervisor is told of their events.
"""

from __future__ import annotations

import os
import signal
import socket
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
    Reply,
    TrialBuilt,
    TrialFailed,
    TrialJob,
    TrialStarted,
)
from mnist_lab.execution.parcels import RefusedParcel, pack_checkpoints, pack_sources, unpack
from mnist_lab.execution.slot import ALIKE, Slot, SlotFacts, SlotSpec, find_versions
from mnist_lab.execution.worker import end_with_parent, print_to
from mnist_lab.spaces import is_file_reference, locate_file, source_files

# An idle slot holds its CPU and GPU, and keeps an autoscaler from removing its node.
IDLE_SECONDS = 60.0
GROW_SECONDS = 10.0
TICK_SECONDS = 1.0
MAX_START_FAILURES = 3
CONNECT_SECONDS = 10.0
CONNECT_TRIES = 2  # the first that follows a killed client may fail
# Before Ray is imported: a lost client's work ends at once, because mnist-lab resumes it itself.
VARIABLES = {
    "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under ``uv run`` Ray would send the current folder, databases included, to every node.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


@dataclass(frozen=True, kw_only=True)
class DriverSpec:
    """The settings of the driver: as ``ExecutorSpec``, and the ``address`` of the cluster.

    ``address`` is ``auto`` (``RAY_ADDRESS``, or the cluster of this machine), ``host:port``, or
    ``ray://host:port``.
    """

    address: str
    workers: int | None
    device: str | None
    workers_per_gpu: int
    at_most: int
    precision: str | None
    threads: int | None
    trainer: str
    dataset: Path
    log: Path


@dataclass(frozen=True)
class Submit:
    """The command to begin a job."""

    job: TrialJob


@dataclass(frozen=True)
class Decide:
    """The command to answer a trial."""

    trial: int
    reply: Reply


@dataclass(frozen=True)
class Kill:
    """The command to end a trial."""

    why: TrialFailed


@dataclass(frozen=True)
class Slots:
    """The message that so many jobs can run at once."""

    count: int


@dataclass(frozen=True)
class Refused:
    """The message of an error that ends the sweep: the type and the three parts of a MnistLabError."""

    kind: type[MnistLabError]
    problem: str
    safe: str
    next_step: str

    @classmethod
    def of(cls, error: MnistLabError) -> Refused:
        return cls(type(error), error.problem, error.safe, error.next_step)


Command = Submit | Decide | Kill
Message = Event | Slots | Refused


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


def read_address(name: str) -> str:
    """Return the address that an executor's ``name`` means: ``ray`` is what Ray itself would take."""
    return os.environ.get("RAY_ADDRESS", "auto") if name == "ray" else name


def connect_to_cluster(address: str) -> None:
    """Connect this process to the cluster at ``address``.

    Raises:
        ServiceError: there is none at the address.
    """
    import ray

    _require_answer(address)
    for left in reversed(range(CONNECT_TRIES)):
        try:
            ray.init(address, log_to_driver=False, logging_level="error")
            break
        except (
            Exception
        ) as error:  # ConnectionError, RuntimeError and others, by the kind of address
            if left:
                time.sleep(2.0)
                continue
            raise _not_connected(address, error) from error
    # Ray has put its own handler in the place of what a worker process has.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _require_answer(address: str) -> None:
    """Require something to listen at the address: Ray itself would try for minutes.

    Raises:
        ServiceError: nothing does.
    """
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> ServiceError:
    where = "on this machine" if address == "auto" else f"at {address}"
    return ServiceError(
        f"There is no Ray cluster {where}: {first_line(error)}.",
        safe="Nothing was trained.",
        next_step="Start one with: ray start --head, or give its address: --executor HOST:6379",
    )


def _not_connected(address: str, error: Exception) -> ServiceError:
    if address == "auto":
        return _no_cluster(address, error)
    said = " ".join(f"{error} {error.__cause__ or ''}".split())[:400]
    advice = "By its address a cluster is reached from a machine on which ray start ran."
    if address.startswith("ray://"):
        advice = "The client port is the head's, and needs the same versions of Ray and Python."
    return ServiceError(
        f"Something answers at {address}, but no Ray cluster for this process: {said}",
        safe="Nothing was trained.",
        next_step=f"{advice} From elsewhere: --executor ray://HOST:10001",
    )


def disconnect() -> None:
    """Leave the cluster; what this process runs on it ends."""
    import ray

    with suppress(Exception):
        ray.shutdown()


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
        self._plan = plan_slots(_nodes(), spec)
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
        for index in range(len(self._seats), count_slots(_nodes(), self._spec, self._plan.share)):
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
        if seat.facts is None:
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


@dataclass(frozen=True)
class SlotPlan:
    """The GPU share and the threads of each slot, and how many there are."""

    share: float
    threads: int
    count: int


@dataclass(frozen=True)
class Node:
    """The CPUs and GPUs that a node gives to Ray."""

    cpus: float
    gpus: float


def _nodes() -> list[Node]:
    import ray

    found = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    return [Node(cpus=each.get("CPU", 0.0), gpus=each.get("GPU", 0.0)) for each in found]


def plan_slots(nodes: list[Node], spec: DriverSpec) -> SlotPlan:
    """Share a cluster among slots.

    One a GPU times ``workers_per_gpu`` if there are GPUs and ``device`` is not ``cpu``, else one a CPU;
    ``workers`` if that is given; at most ``at_most``. A slot has as many threads as its node has CPUs
    for it.

    Raises:
        ConfigurationError: a device that the cluster does not have; or a cluster without nodes, of
            which the number of slots cannot be known.
    """
    gpus = sum(int(node.gpus) for node in nodes)
    if spec.device not in (None, "cpu", "gpu"):
        raise ConfigurationError(
            f"The device {spec.device!r} is one machine's.",
            next_step="For a cluster: --device cpu or --device gpu",
        )
    if spec.device == "gpu" and not gpus and spec.workers is None:
        raise ConfigurationError(
            "The Ray cluster has no GPU now.",
            next_step="Add --device cpu; or --workers N, to wait for nodes with GPUs.",
        )
    uses_gpus = spec.device == "gpu" or (spec.device is None and gpus > 0)
    share = 1 / spec.workers_per_gpu if uses_gpus else 0.0
    found = count_slots(nodes, spec, share)
    if spec.workers is None and not found:
        raise ConfigurationError(
            "The Ray cluster has no CPU now, so the number of workers cannot be known.",
            next_step="Say it: --workers N",
        )
    count = max(1, min(spec.workers or found, spec.at_most))
    _require_room(nodes, spec)
    hosts = [node for node in nodes if (node.gpus if uses_gpus else node.cpus)]
    on_each = -(-count // len(hosts)) if hosts else 1
    share_of_node = max(1, min((int(node.cpus) for node in hosts), default=1) // on_each)
    return SlotPlan(share=share, threads=spec.threads or share_of_node, count=count)


def count_slots(nodes: list[Node], spec: DriverSpec, share: float) -> int:
    """Count the slots of a ``share`` of a GPU, or of one CPU, that nodes have; 0 if there are none."""
    if share:
        found = sum(int(node.gpus) for node in nodes) * spec.workers_per_gpu
    else:
        found = sum(int(node.cpus) for node in nodes)
    return min(found, spec.at_most)


def _require_room(nodes: list[Node], spec: DriverSpec) -> None:
    """Raise ``ConfigurationError`` if no node has as many CPUs as threads are asked for."""
    most = max((int(node.cpus) for node in nodes), default=0)
    if spec.threads is not None and spec.threads > most:
        raise ConfigurationError(
            f"No node of the cluster has {spec.threads} CPUs, one for each thread of the record.",
            next_step="Type the same command without --executor, or add such a node.",
        )


def require_alike(facts: SlotFacts) -> None:
    """Require a slot's versions to be those of this machine.

    Raises:
        ConfigurationError: they are not, with the node and what to type there.
    """
    here = find_versions()
    other = {name: v for name, v in facts.versions.items() if v != here.get(name)}
    if not other:
        return
    said = ", ".join(f"{name} {v} (here {here.get(name)})" for name, v in sorted(other.items()))
    wanted = [f"'{name}=={here[name]}'" for name in other if name in ALIKE]
    own = {"python": f"use Python {here['python']}", "mnist-lab": "install the same mnist-lab"}
    steps = [own[name] for name in own if name in other]
    install = ", ".join([*steps, *([f"pip install {' '.join(wanted)}"] if wanted else [])])
    raise ConfigurationError(
        f"The node {facts.host} has other versions: {said}.",
        safe="Nothing was trained there.",
        next_step=f"On {facts.host}: {install}",
    )


_OF_A_DISK = (FailureReason.DISK_FULL, FailureReason.DISK_ERROR)
# What Ray says in words alone.
_MEMORY_WORDS = ("memory monitor", "OutOfMemory", "out of memory")
_NODE_WORDS = ("node has died", "node died", "preempted", "heartbeats", "Socket closed")
_NODE_ERRORS = (
    "ActorUnavailableError",
    "NodeDiedError",
    "ObjectLostError",
    "OwnerDiedError",
    "ObjectFetchTimedOutError",
)


def explain_loss(error: BaseException, place: str) -> tuple[FailureReason, str]:
    """Return the reason why an actor was lost, and a sentence: Ray's text is 600 letters."""
    name, text = type(error).__name__, str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error: " in line), lines[0] if lines else "")
    detail = f"{name} on {place}: {said[:200]}"
    if any(word in text or word in name for word in _MEMORY_WORDS):
        return FailureReason.OUT_OF_MEMORY, detail
    if name in _NODE_ERRORS or any(word in text for word in _NODE_WORDS):
        return FailureReason.NODE_LOST, detail
    return FailureReason.CRASHED, detail
