"""The loop: next, submit, on_epoch, finish; and ``confirm`` and ``reproduce``, which run it again."""

from mnist_lab.sweep.check_space import check_space_first
from mnist_lab.sweep.confirm import confirm
from mnist_lab.sweep.launch import launch
from mnist_lab.sweep.progress import Listener, Progress, SweepResult
from mnist_lab.sweep.reproduce import reproduce
from mnist_lab.sweep.signals import StopRequest, answer_signals
from mnist_lab.sweep.supervisor import Supervisor

__all__ = [
    "Listener",
    "Progress",
    "StopRequest",
    "Supervisor",
    "SweepResult",
    "answer_signals",
    "check_space_first",
    "confirm",
    "launch",
    "reproduce",
]
