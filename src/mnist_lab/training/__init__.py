"""One training: a compiled Keras model and two splits in, a history and the best weights out."""

from mnist_lab.training.runtime import Runtime, configure
from mnist_lab.training.train import Diverged, EpochMetrics, History, TrainingPlan, train

__all__ = [
    "Diverged",
    "EpochMetrics",
    "History",
    "Runtime",
    "TrainingPlan",
    "configure",
    "train",
]
