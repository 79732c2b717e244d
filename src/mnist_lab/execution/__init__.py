"""Where trainings run. The supervisor talks to an ``Executor``; workers are other processes."""

from mnist_lab.execution.executor import Executor
from mnist_lab.execution.local import LocalExecutor
from mnist_lab.execution.messages import (
    EpochFinished,
    Event,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialStarted,
)
from mnist_lab.execution.resources import plan_workers

__all__ = [
    "EpochFinished",
    "Event",
    "Executor",
    "LocalExecutor",
    "TrialFailed",
    "TrialFinished",
    "TrialJob",
    "TrialStarted",
    "plan_workers",
]
