"""The loop: next, submit, on_epoch, finish; and ``confirm`` and ``reproduce``, which run it again."""

from mnist_lab.sweep.actions import NewsKind
from mnist_lab.sweep.confirm import confirm, train_replicas
from mnist_lab.sweep.launch import launch
from mnist_lab.sweep.progress import Progress, SweepResult
from mnist_lab.sweep.reproduce import reproduce
from mnist_lab.sweep.state import SweepState

__all__ = [
    "NewsKind",
    "Progress",
    "SweepResult",
    "SweepState",
    "confirm",
    "launch",
    "reproduce",
    "train_replicas",
]
