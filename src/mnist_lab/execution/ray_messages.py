"""The messages between the supervisor and the process that drives a Ray cluster for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mnist_lab.errors import MnistLabError
from mnist_lab.execution.messages import Event, Reply, TrialFailed, TrialJob


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

    def to_error(self) -> MnistLabError:
        return self.kind(self.problem, safe=self.safe, next_step=self.next_step)


Command = Submit | Decide | Kill
Message = Event | Slots | Refused
