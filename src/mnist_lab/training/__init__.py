"""One training: a compiled Keras model and two splits in, a history and the best weights out."""

from mnist_lab.training.checkpoints import (
    Checkpoint,
    Checkpoints,
    Damaged,
    read_checkpoint,
    write_copy,
)
from mnist_lab.training.engine import VALIDATION_BATCH
from mnist_lab.training.epochs import Diverged, EpochMetrics, History, Report
from mnist_lab.training.find_form import find_form, require_model
from mnist_lab.training.find_labels import Build, Fit
from mnist_lab.training.form import PLAIN, ModelForm, around
from mnist_lab.training.latency import measure_latency
from mnist_lab.training.precision import known_precision
from mnist_lab.training.runtime import Runtime, configure, environment
from mnist_lab.training.saving import save_model, without_optimizer
from mnist_lab.training.train import TrainingPlan, train

__all__ = [
    "PLAIN",
    "VALIDATION_BATCH",
    "Build",
    "Checkpoint",
    "Checkpoints",
    "Damaged",
    "Diverged",
    "EpochMetrics",
    "Fit",
    "History",
    "ModelForm",
    "Report",
    "Runtime",
    "TrainingPlan",
    "around",
    "configure",
    "environment",
    "find_form",
    "known_precision",
    "measure_latency",
    "read_checkpoint",
    "require_model",
    "save_model",
    "train",
    "without_optimizer",
    "write_copy",
]
