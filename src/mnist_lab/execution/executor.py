"""The ``Executor`` seam: the runner of a sweep's trainings."""

from __future__ import annotations

from typing import Protocol

from mnist_lab.execution.messages import Event, Reply, TrialFailed, TrialJob


class Executor(Protocol):
    """The runner of up to ``slots`` jobs at once, called from one thread only.

    The files of an event lie in the job's folder on this machine before the event is returned: a
    checkpoint before its ``EpochFinished``, artifacts and model before ``TrialFinished``.
    """

    @property
    def slots(self) -> int:
        """The number of jobs that run at once, at least 1; it may grow and shrink while they run.

        Fewer when a worker cannot be started any more, more when a machine joins.
        """

    def start(self) -> None:
        """Begin to start the workers, without waiting for them."""

    def connect(self, timeout: float) -> bool:
        """Wait ``timeout`` seconds until workers can be had; whether they can.

        Raises:
            MnistLabError: there will be none.
        """

    def submit(self, job: TrialJob) -> None:
        """Give a job to a free worker, or let it wait for one.

        The caller keeps count: no more than ``slots``, but for jobs that are tried again.
        """

    def next_event(self, timeout: float) -> Event | None:
        """Wait for the next event of any worker; None after ``timeout`` seconds."""

    def decide(self, trial: int, reply: Reply) -> None:
        """Answer the trial's last ``EpochFinished`` or ``ParameterAsked``."""

    def kill(self, why: TrialFailed) -> None:
        """End the trial at once; ``why`` is its next event, unless it has ended already.

        One that waits for a place on a cluster has used up no time: a timeout does not end it.
        """

    def close(self) -> None:
        """End every worker. Safe to call twice."""
