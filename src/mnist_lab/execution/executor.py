"""The ``Executor`` seam: what runs the trainings of a sweep."""

from __future__ import annotations

from typing import Protocol

from mnist_lab.execution.messages import Event, Reply, TrialFailed, TrialJob


class Executor(Protocol):
    """Runs up to ``slots`` jobs at once. Called from one thread only."""

    @property
    def slots(self) -> int:
        """How many jobs run at once; fewer when a worker cannot be started any more."""

    def start(self) -> None:
        """Begin to start the workers; returns before they are ready."""

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
