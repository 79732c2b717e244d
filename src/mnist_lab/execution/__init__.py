"""The trainings of a sweep, run behind the ``Executor`` seam.

Workers are other processes, but for the inline executor.
"""

from mnist_lab.execution.blueprint import Blueprint
from mnist_lab.execution.check import SpaceCheck, check_space
from mnist_lab.execution.executor import Executor
from mnist_lab.execution.figures import FigureProcess, FigureSpec
from mnist_lab.execution.files import KEPT_PREDICTIONS, TrialFiles
from mnist_lab.execution.forkserver import may_fork, warm_up
from mnist_lab.execution.inline import InlineExecutor
from mnist_lab.execution.local import LocalExecutor
from mnist_lab.execution.make import (
    ExecutorSpec,
    imports_by_itself,
    make_executor,
    require_executor,
)
from mnist_lab.execution.messages import (
    Answer,
    Decision,
    EpochFinished,
    Event,
    FailureReason,
    ParameterAsked,
    TrialBuilt,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.execution.resources import memory_cap, plan_workers, usable_cores
from mnist_lab.execution.survey import NodeFacts, survey_cluster
from mnist_lab.execution.worker import WorkerSpec

__all__ = [
    "KEPT_PREDICTIONS",
    "Answer",
    "Blueprint",
    "Decision",
    "EpochFinished",
    "Event",
    "Executor",
    "ExecutorSpec",
    "FailureReason",
    "FigureProcess",
    "FigureSpec",
    "InlineExecutor",
    "LocalExecutor",
    "NodeFacts",
    "ParameterAsked",
    "SpaceCheck",
    "TrialBuilt",
    "TrialFailed",
    "TrialFiles",
    "TrialFinished",
    "TrialJob",
    "TrialPaused",
    "TrialStarted",
    "WorkerSpec",
    "check_space",
    "imports_by_itself",
    "make_executor",
    "may_fork",
    "memory_cap",
    "plan_workers",
    "require_executor",
    "survey_cluster",
    "usable_cores",
    "warm_up",
]
