"""The ``Executor`` seam: the runner of a sweep's trainings."""

from __future__ import annotations

from typing import Protocol

from mnist_lab.execution.messages import Event, Reply, TrialFailed, TrialJob


class Executor(Protocol):
    """The runner of up to ``slots`` jobs at once, called from one thread only.

    Called from one thread only.
    """

    @property
    def slots(self) -> int:
        """The number of jobs that run at once; fewer when a worker cannot be started any more."""

    def start(self) -> None:
        """Begin to start the workers, without waiting for them."""

    def submit(self, job: TrialJob) -> None:
        """Give a job to a free worker. The caller keeps count: never more than ``slots``."""

    def next_event(self, timeout: float) -> Event | None:
        """Wait for the next event of any worker; None after ``timeout`` seconds."""

    def decide(self, trial: int, reply: Reply) -> None:
        """Answer the trial's last ``EpochFinished`` or ``ParameterAsked``."""

    def kill(self, why: TrialFailed) -> None:
        """End the trial at once; ``why`` is its next event, unless it has ended already."""

    def close(self) -> None:
        """End every worker. Safe to call twice."""
