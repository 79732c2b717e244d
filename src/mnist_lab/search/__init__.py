"""The choice of the next trial, and of each trial's length: schedulers, samplers, retries."""

from mnist_lab.search.pruners import make_pruner, make_scheduler
from mnist_lab.search.retries import (
    MAX_ATTEMPTS_WITHOUT_PROGRESS,
    REMEDIES,
    START_SECONDS,
    TRANSIENT,
    Remedy,
    is_retryable,
    may_retry,
)
from mnist_lab.search.samplers import grid_points, make_sampler
from mnist_lab.search.scheduler import Choice, Scheduler, SchedulerDecision
from mnist_lab.search.seen import SeenPoints
from mnist_lab.search.suggest import as_stored, suggest
from mnist_lab.search.trial_sampler import TrialSampler

__all__ = [
    "MAX_ATTEMPTS_WITHOUT_PROGRESS",
    "REMEDIES",
    "START_SECONDS",
    "TRANSIENT",
    "Choice",
    "Remedy",
    "Scheduler",
    "SchedulerDecision",
    "SeenPoints",
    "TrialSampler",
    "as_stored",
    "grid_points",
    "is_retryable",
    "make_pruner",
    "make_sampler",
    "make_scheduler",
    "may_retry",
    "suggest",
]
