"""One training: a compiled Keras model and two splits in, a history and the best weights out."""

from mnist_lab.training.checkpoints import Checkpoint, Checkpoints
from mnist_lab.training.runtime import Runtime, configure
from mnist_lab.training.train import Diverged, EpochMetrics, History, Report, TrainingPlan, train

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Diverged",
    "EpochMetrics",
    "History",
    "Report",
    "Runtime",
    "TrainingPlan",
    "configure",
    "train",
]
