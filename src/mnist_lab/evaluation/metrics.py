"""``evaluate``: scores, curves and calibration of predictions, the notebook's among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

CALIBRATION_BINS = 15  # the count in Guo et al. 2017, "On Calibration of Modern Neural Networks"
MICRO = "micro"  # the curve of all classes together
MOST_SCALARS = 20  # classes whose areas are metrics of their own; all are in roc.json
ROC_POINTS = 200  # a curve in JSON keeps this many points: enough to draw it, small enough to read


@dataclass(frozen=True, kw_only=True, eq=False)
class RocCurve:
    """Rates in [0, 1], each ``(P,) float64``, and the area under the curve."""

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    auroc: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The scores of ``N`` predictions in ``C`` classes.

    ``class_names`` are those of the labels 0 to C-1.
    ``confusion`` is ``(C, C) int64``, rows true, columns predicted. ``per_class`` holds precision,
    recall, f1 and support for each class. ``roc`` has one one-vs-rest curve a class that occurs,
    and ``micro``; ``auroc_macro`` is the mean over classes.
    """

    samples: int
    loss: float
    accuracy: float
    confusion: NDArray[np.int64]
    per_class: tuple[dict[str, float], ...]
    roc: dict[str, RocCurve]
    auroc_macro: float
    calibration_error: float
    class_names: tuple[str, ...]

    @property
    def f1_macro(self) -> float:
        """The mean over the classes of precision and recall's harmonic mean."""
        return float(np.mean([row["f1"] for row in self.per_class]))

    @property
    def balanced_accuracy(self) -> float:
        """The mean over the classes that occur of their recall."""
        return float(np.mean([row["recall"] for row in self.per_class if row["support"]]))

    def scalars(self, prefix: str) -> dict[str, float]:
        """Return the single numbers, named ``<prefix>_auroc_macro`` and so on, for a metrics table."""
        numbers = {
            "cross_entropy": self.loss,  # without the label smoothing that Keras's loss may have
            "auroc_macro": self.auroc_macro,
            "f1_macro": self.f1_macro,
            "balanced_accuracy": self.balanced_accuracy,
            "calibration_error": self.calibration_error,
            **{
                f"auroc_{name}": curve.auroc
                for name, curve in self.roc.items()
                if len(self.class_names) <= MOST_SCALARS or name == MICRO
            },
        }
        return {f"{prefix}_{name}": float(value) for name, value in numbers.items()}

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Return JSON-able documents: ``confusion_matrix``, ``classification_report``, ``roc``."""
        return {
            "confusion_matrix": {
                "rows": "true",
                "columns": "predicted",
                "classes": list(self.class_names),
                "counts": self.confusion.tolist(),
            },
            "classification_report": {
                "samples": self.samples,
                "loss": self.loss,
                "accuracy": self.accuracy,
                "calibration_error": self.calibration_error,
                "f1_macro": self.f1_macro,
                "balanced_accuracy": self.balanced_accuracy,
                "classes": dict(zip(self.class_names, self.per_class, strict=True)),
            },
            "roc": {
                "auroc_macro": self.auroc_macro,
                "curves": {name: _curve_to_json(curve) for name, curve in self.roc.items()},
            },
        }


def evaluate(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.uint8],
    class_names: Sequence[str] | None = None,
) -> Evaluation:
    """Score ``probabilities`` ``(N, C) float32``, rows summing to 1, against ``labels`` ``(N,) uint8``.

    Classes are called by their numbers unless ``class_names`` says otherwise.

    Raises:
        ValueError: a probability is not finite, or the lengths differ.
    """
    if len(probabilities) != len(labels) or not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite, one row a label")
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    names = tuple(class_names or map(str, classes))
    roc = _roc_curves(probabilities, labels, names)
    return Evaluation(
        samples=len(labels),
        loss=_cross_entropy(probabilities, labels, classes),
        accuracy=float(metrics.accuracy_score(labels, predicted)),
        confusion=metrics.confusion_matrix(labels, predicted, labels=classes),
        per_class=_per_class(labels, predicted, classes),
        roc=roc,
        auroc_macro=float(np.mean([each.auroc for name, each in roc.items() if name != MICRO])),
        calibration_error=expected_calibration_error(probabilities, labels),
        class_names=names,
    )


def expected_calibration_error(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8]
) -> float:
    """Compute the mean gap between confidence and accuracy over equal-width bins, weighted by counts.

    ``ECE = sum_b n_b / N * |acc_b - conf_b|`` (Guo et al. 2017, eq. 3).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    gaps = np.bincount(np.digitize(confidence, edges), correct - confidence, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _cross_entropy(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8], classes: NDArray[np.int64]
) -> float:
    # A float32 softmax sums to 1 within 1e-6 only, which log_loss warns of in float64.
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(labels, exact, labels=classes))


def _per_class(
    labels: NDArray[np.uint8], predicted: NDArray[np.int64], classes: NDArray[np.int64]
) -> tuple[dict[str, float], ...]:
    columns = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0.0
    )
    names = ("precision", "recall", "f1", "support")
    return tuple(
        {name: float(value) for name, value in zip(names, row, strict=True)}
        for row in zip(*columns, strict=True)
    )


def _roc_curves(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8], names: Sequence[str]
) -> dict[str, RocCurve]:
    truth = one_hot(labels, len(names))
    curves = {}
    for label, name in enumerate(names):
        if 0 < truth[:, label].sum() < len(labels):  # a class that never occurs has no curve
            known = f"class {name}" if name in (MICRO, "macro") else name
            curves[known] = _roc_curve(truth[:, label], probabilities[:, label])
    curves[MICRO] = _roc_curve(truth.ravel(), probabilities.ravel())
    return curves


def one_hot(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Return ``(N, classes)``; scikit-learn's ``label_binarize`` has one column for two classes."""
    return np.eye(classes, dtype=np.int64)[labels]


def _roc_curve(truth: NDArray[np.int64], score: NDArray[np.float32]) -> RocCurve:
    false_positive_rate, true_positive_rate, _ = metrics.roc_curve(truth, score)
    return RocCurve(
        false_positive_rate=false_positive_rate,
        true_positive_rate=true_positive_rate,
        auroc=float(metrics.auc(false_positive_rate, true_positive_rate)),
    )


def _curve_to_json(curve: RocCurve) -> dict[str, Any]:
    keep = np.unique(np.linspace(0, len(curve.false_positive_rate) - 1, ROC_POINTS).astype(int))
    return {
        "auroc": curve.auroc,
        "false_positive_rate": curve.false_positive_rate[keep].round(6).tolist(),
        "true_positive_rate": curve.true_positive_rate[keep].round(6).tolist(),
    }
