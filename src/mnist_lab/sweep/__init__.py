"""The sweep: an Optuna study whose trials are trainings in workers, projected into a tracker."""

from mnist_lab.sweep.config import SweepConfig, parse_config, read_config
from mnist_lab.sweep.launch import launch
from mnist_lab.sweep.progress import Progress, SweepResult
from mnist_lab.sweep.study import open_study
from mnist_lab.sweep.supervisor import Supervisor
from mnist_lab.sweep.sync import SyncRow, sync

__all__ = [
    "Progress",
    "Supervisor",
    "SweepConfig",
    "SweepResult",
    "SyncRow",
    "launch",
    "open_study",
    "parse_config",
    "read_config",
    "sync",
]
