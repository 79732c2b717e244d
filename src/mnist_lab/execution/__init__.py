"""Where trainings run. The supervisor talks to an ``Executor``; workers are other processes."""

from mnist_lab.execution.executor import Executor
from mnist_lab.execution.local import LocalExecutor
from mnist_lab.execution.messages import (
    Decision,
    EpochFinished,
    Event,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.execution.resources import plan_workers

__all__ = [
    "Decision",
    "EpochFinished",
    "Event",
    "Executor",
    "LocalExecutor",
    "TrialFailed",
    "TrialFinished",
    "TrialJob",
    "TrialPaused",
    "TrialStarted",
    "plan_workers",
]
