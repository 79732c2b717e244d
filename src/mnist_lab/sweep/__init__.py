"""The sweep: an Optuna study whose trials are trainings in workers, projected into a tracker."""

from mnist_lab.sweep.config import SweepConfig, parse_config, read_config
from mnist_lab.sweep.confirm import confirm
from mnist_lab.sweep.launch import launch
from mnist_lab.sweep.progress import Progress, SweepResult
from mnist_lab.sweep.replicas import (
    Confirmation,
    ConfirmedTrial,
    Design,
    is_confirmed,
    read_confirmation,
)
from mnist_lab.sweep.study import open_study
from mnist_lab.sweep.summary import PruningReport, report_pruning
from mnist_lab.sweep.supervisor import Supervisor
from mnist_lab.sweep.sync import SyncRow, sync

__all__ = [
    "Confirmation",
    "ConfirmedTrial",
    "Design",
    "Progress",
    "PruningReport",
    "Supervisor",
    "SweepConfig",
    "SweepResult",
    "SyncRow",
    "confirm",
    "is_confirmed",
    "launch",
    "open_study",
    "parse_config",
    "read_config",
    "read_confirmation",
    "report_pruning",
    "sync",
]
