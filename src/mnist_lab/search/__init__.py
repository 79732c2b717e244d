"""Which trial is next, and how far each trains: schedulers, samplers, retries."""

from mnist_lab.search.halving import Halving, SchedulerDecision, rungs_of
from mnist_lab.search.optuna_pruner import HALVING, make_halving, make_pruner
from mnist_lab.search.retries import (
    MAX_ATTEMPTS_WITHOUT_PROGRESS,
    RETRIED,
    START_SECONDS,
    STOPS_THE_SWEEP,
    TRANSIENT,
    may_retry,
)
from mnist_lab.search.samplers import grid_points, make_sampler
from mnist_lab.search.seen import SeenPoints
from mnist_lab.search.suggest import as_stored, suggest
from mnist_lab.search.trial_sampler import TrialSampler

__all__ = [
    "HALVING",
    "MAX_ATTEMPTS_WITHOUT_PROGRESS",
    "RETRIED",
    "START_SECONDS",
    "STOPS_THE_SWEEP",
    "TRANSIENT",
    "Halving",
    "SchedulerDecision",
    "SeenPoints",
    "TrialSampler",
    "as_stored",
    "grid_points",
    "make_halving",
    "make_pruner",
    "make_sampler",
    "may_retry",
    "rungs_of",
    "suggest",
]
