"""The seam between the sweep and whatever runs its trainings."""

from __future__ import annotations

from typing import Protocol

from mnist_lab.execution.messages import Event, Reply, TrialFailed, TrialJob


class Executor(Protocol):
    """Runs up to ``slots`` jobs at once. Called from one thread only."""

    @property
    def slots(self) -> int: ...

    def start(self) -> None:
        """Begin to start the workers; returns before they are ready."""

    def submit(self, job: TrialJob) -> None:
        """Give a job to a free worker. The caller keeps count: never more than ``slots``."""

    def next_event(self, timeout: float) -> Event | None:
        """The next thing that a worker says, or None after ``timeout`` seconds."""

    def decide(self, trial: int, reply: Reply) -> None:
        """Answer the trial's last ``EpochFinished`` or ``ParameterAsked``."""

    def kill(self, why: TrialFailed) -> None:
        """End the trial's worker at once; ``why`` is the trial's next event."""

    def close(self) -> None:
        """End every worker. Safe to call twice."""
