"""Numbers from probabilities, figures from numbers. Nothing here trains or loads a model."""

from mnist_lab.evaluation.metrics import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
