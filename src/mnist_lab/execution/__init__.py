"""Where trainings run. The supervisor talks to an ``Executor``; workers are other processes."""

from mnist_lab.execution.executor import Executor
from mnist_lab.execution.local import LocalExecutor
from mnist_lab.execution.messages import (
    Answer,
    Decision,
    EpochFinished,
    Event,
    ParameterAsked,
    Reply,
    TrialBuilt,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.execution.resources import plan_workers

__all__ = [
    "Answer",
    "Decision",
    "EpochFinished",
    "Event",
    "Executor",
    "LocalExecutor",
    "ParameterAsked",
    "Reply",
    "TrialBuilt",
    "TrialFailed",
    "TrialFinished",
    "TrialJob",
    "TrialPaused",
    "TrialStarted",
    "plan_workers",
]
