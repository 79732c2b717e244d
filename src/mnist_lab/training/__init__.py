"""One training: a compiled Keras model and two splits in, a history and the best weights out."""

from mnist_lab.training.checkpoints import Checkpoint, Checkpoints
from mnist_lab.training.epochs import Diverged, EpochMetrics, History, Report
from mnist_lab.training.find_form import find_form
from mnist_lab.training.form import ModelForm, around
from mnist_lab.training.runtime import Runtime, configure
from mnist_lab.training.train import TrainingPlan, train

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Diverged",
    "EpochMetrics",
    "History",
    "ModelForm",
    "Report",
    "Runtime",
    "TrainingPlan",
    "around",
    "configure",
    "find_form",
    "train",
]
