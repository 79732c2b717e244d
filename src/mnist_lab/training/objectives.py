"""The objectives that Keras does not report while it validates, by scikit-learn's definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float32]
Labels = NDArray[np.uint8]


def f1_macro(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean over the classes of the harmonic mean of precision and recall."""
    from sklearn import metrics

    classes = range(probabilities.shape[1])
    found = metrics.f1_score(
        labels, probabilities.argmax(axis=1), labels=classes, average="macro", zero_division=0.0
    )
    return float(found)


def auroc_macro(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean over the classes that occur of the areas under one-vs-rest ROC curves."""
    from sklearn import metrics

    areas = [
        metrics.roc_auc_score(labels == label, probabilities[:, label])
        for label in np.unique(labels)
    ]
    return float(np.mean(areas))


def balanced_accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean over the classes that occur of their recall."""
    from sklearn import metrics

    predicted = probabilities.argmax(axis=1)
    return float(metrics.recall_score(labels, predicted, labels=np.unique(labels), average="macro"))


MEASURES: Mapping[str, Callable[[Probabilities, Labels], float]] = {
    "val_f1_macro": f1_macro,
    "val_auroc_macro": auroc_macro,
    "val_balanced_accuracy": balanced_accuracy,
}
