"""Numbers from probabilities, figures from numbers. Nothing here trains or loads a model."""

from mnist_lab.evaluation.kept import (
    Predictions,
    pack_classes,
    pack_predictions,
    read_predictions,
    unpack_classes,
)
from mnist_lab.evaluation.metrics import Evaluation, evaluate

__all__ = [
    "Evaluation",
    "Predictions",
    "evaluate",
    "pack_classes",
    "pack_predictions",
    "read_predictions",
    "unpack_classes",
]
