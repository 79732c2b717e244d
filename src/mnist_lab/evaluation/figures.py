"""Figures by scikit-learn's Display classes on matplotlib's object interface, no pyplot state.

Each function returns a ``Figure`` sized to be read at the width that MLflow shows, 800 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay
from sklearn.preprocessing import label_binarize

from mnist_lab.data import Dataset, Split
from mnist_lab.evaluation.metrics import CALIBRATION_BINS, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mnist_lab.training import EpochMetrics

DPI = 100
MISTAKES = 25


def draw_trial(
    evaluation: Evaluation,
    history: Sequence[EpochMetrics],
    probabilities: NDArray[np.float32],
    validation: Split,
) -> dict[str, Figure]:
    """Draw the six figures of a trial, by file name; predictions are of the validation images."""
    return {
        "curves": draw_curves(history),
        **draw_predictions(evaluation, probabilities, validation),
    }


def draw_predictions(
    evaluation: Evaluation, probabilities: NDArray[np.float32], split: Split
) -> dict[str, Figure]:
    """Draw the five figures that need no history, by file name."""
    return {
        "confusion_matrix": draw_confusion_matrix(evaluation),
        "roc": draw_roc(evaluation),
        "precision_recall": draw_precision_recall(evaluation, probabilities, split.labels),
        "reliability": draw_reliability(evaluation, probabilities, split.labels),
        "mistakes": draw_mistakes(probabilities, split),
    }


def save(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write ``<folder>/<name>.png`` for each figure."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI, pil_kwargs={"compress_level": 1})


def draw_curves(history: Sequence[EpochMetrics]) -> Figure:
    """Draw accuracy and loss of training and validation over the epochs."""
    figure = Figure(figsize=(8, 6))
    axes = figure.subplots(2, 1, sharex=True)
    figure.subplots_adjust(left=0.11, right=0.97, top=0.91, bottom=0.09)
    epochs = [epoch.epoch for epoch in history]
    for panel, name in zip(axes, ("accuracy", "loss"), strict=True):
        panel.plot(epochs, [getattr(epoch, name) for epoch in history], "o-", label="train")
        panel.plot(
            epochs, [getattr(epoch, f"val_{name}") for epoch in history], "o-", label="validation"
        )
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    axes[0].legend()
    axes[1].set_xlabel("epoch")
    axes[1].xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle("Accuracy and loss by epoch")
    return figure


def draw_confusion_matrix(evaluation: Evaluation) -> Figure:
    """Draw counts, and below them the shares of each true class."""
    figure = Figure(figsize=(7.5, 14))
    top, bottom = figure.subplots(2, 1)
    figure.subplots_adjust(left=0.08, right=0.97, top=0.93, bottom=0.05, hspace=0.15)
    counts = evaluation.confusion
    ConfusionMatrixDisplay(counts).plot(ax=top, cmap="Blues", colorbar=False, values_format="d")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ConfusionMatrixDisplay(shares * 100).plot(
        ax=bottom, cmap="Blues", colorbar=False, values_format=".1f"
    )
    for panel in (top, bottom):
        for text in panel.texts:  # most cells of a good model are empty, and drawing text is slow
            text.set_visible(text.get_text() not in ("0", "0.0"))
    top.set_title("Counts")
    bottom.set_title("Percent of the true class")
    figure.suptitle(
        f"Confusion matrix: accuracy {evaluation.accuracy:.2%} of {evaluation.samples:,}"
    )
    return figure


def draw_roc(evaluation: Evaluation) -> Figure:
    """Draw one-vs-rest curves: whole, and below them the corner where good models differ."""
    figure = Figure(figsize=(7.5, 13))
    whole, corner = figure.subplots(2, 1)
    figure.subplots_adjust(left=0.11, right=0.97, top=0.94, bottom=0.05, hspace=0.15)
    for name, curve in evaluation.roc.items():
        display = RocCurveDisplay(fpr=curve.false_positive_rate, tpr=curve.true_positive_rate)
        style = {"linestyle": ":", "color": "black"} if name == "micro" else {}
        display.plot(ax=whole, curve_kwargs={**style, "label": f"{name} ({curve.auroc:.4f})"})
        display.plot(ax=corner, curve_kwargs=style)
    whole.plot([0, 1], [0, 1], "--", color="grey", label="chance (0.5000)")
    whole.legend(title="class (AUROC)", loc="lower right", fontsize="small")
    corner.set(xlim=(0, 0.05), ylim=(0.95, 1.0), title="Upper left corner")
    if corner.get_legend() is not None:
        corner.get_legend().remove()
    figure.suptitle(f"ROC, one against the rest: macro AUROC {evaluation.auroc_macro:.4f}")
    return figure


def draw_precision_recall(
    evaluation: Evaluation, probabilities: NDArray[np.float32], labels: NDArray[np.uint8]
) -> Figure:
    """Draw precision against recall, one class against the rest; a good model's corner only."""
    low = 0.8 if evaluation.accuracy > 0.9 else 0.0
    figure = Figure(figsize=(8, 6))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.1, right=0.97, top=0.93, bottom=0.1)
    truth = label_binarize(labels, classes=np.arange(probabilities.shape[1]))
    for label in range(probabilities.shape[1]):
        if truth[:, label].any():
            PrecisionRecallDisplay.from_predictions(
                truth[:, label], probabilities[:, label], ax=axes, name=str(label)
            )
    axes.set(
        xlim=(low, 1.005), ylim=(low, 1.005), title="Precision and recall, one against the rest"
    )
    axes.set(xlabel="recall", ylabel="precision")
    axes.legend(title="class", loc="lower left", fontsize="small")
    return figure


def draw_reliability(
    evaluation: Evaluation, probabilities: NDArray[np.float32], labels: NDArray[np.uint8]
) -> Figure:
    """Draw the share of right predictions by confidence, and below it the number of images."""
    figure = Figure(figsize=(8, 6))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.subplots_adjust(left=0.1, right=0.97, top=0.93, bottom=0.09)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    CalibrationDisplay.from_predictions(
        correct,
        confidence.clip(0, 1),
        n_bins=CALIBRATION_BINS,
        ax=top,
        name="model",
        pos_label=True,
    )
    top.set(title=f"Reliability: calibration error {evaluation.calibration_error:.4f}", xlabel="")
    top.set_ylabel("share that is right")
    bottom.hist(confidence, bins=CALIBRATION_BINS, range=(0, 1), log=True)
    bottom.yaxis.set_minor_formatter(NullFormatter())  # there is no room for all powers of ten
    bottom.set(xlabel="confidence", ylabel="images")
    return figure


def draw_mistakes(probabilities: NDArray[np.float32], split: Split) -> Figure:
    """Draw the worst mistakes: those with the lowest probability of the true class."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != split.labels)
    belief = probabilities[wrong, split.labels[wrong]]
    worst = wrong[np.argsort(belief, kind="stable")][:MISTAKES]
    figure = Figure(figsize=(8, 8.5))
    axes = figure.add_axes((0.03, 0.01, 0.94, 0.93))
    # One picture of 5x5 tiles: 25 pairs of axes take five times as long.
    height, width = (size + gap for size, gap in zip(split.images.shape[1:], (12, 14), strict=True))
    sheet = np.full((5 * height, 5 * width), 255, np.uint8)
    for place, index in enumerate(worst):
        row, column = divmod(place, 5)
        top, left = row * height + 12, column * width + 7
        rows, columns = split.images.shape[1:]
        sheet[top : top + rows, left : left + columns] = split.images[index]
        sure = probabilities[index, predicted[index]]
        axes.text(
            left + columns / 2,
            top - 2,
            f"{split.labels[index]} taken for {predicted[index]}\n({sure:.0%} sure)",
            fontsize=8,
            ha="center",
            va="bottom",
        )
    _show_digit(axes, sheet)
    figure.suptitle(f"Worst of {len(wrong):,} mistakes in {len(split):,} images")
    return figure


def draw_dataset(dataset: Dataset) -> dict[str, Figure]:
    """Draw the two figures of a data set, by file name."""
    return {
        "class_counts": draw_class_counts(dataset.train, dataset.validation),
        "first_images": draw_first_images(dataset.train),
    }


def draw_class_counts(train: Split, validation: Split) -> Figure:
    """Draw the number of images of each class in the two splits."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for offset, (name, split) in zip(
        (-0.2, 0.2), (("train", train), ("validation", validation)), strict=True
    ):
        counts = np.bincount(split.labels, minlength=10)
        bars = axes.bar(
            np.arange(len(counts)) + offset, counts, width=0.4, label=f"{name} ({len(split):,})"
        )
        axes.bar_label(bars, fontsize=6, rotation=90, padding=2)
    axes.set(xlabel="class", ylabel="images", xticks=range(10), title="Images of each class")
    axes.margins(y=0.15)
    axes.legend()
    return figure


def draw_first_images(train: Split) -> Figure:
    """Draw the first nine training images, as the notebook shows them."""
    figure = Figure(figsize=(6, 6.4), layout="constrained")
    for panel, image, label in zip(
        figure.subplots(3, 3).ravel(), train.images, train.labels, strict=False
    ):
        _show_digit(panel, image)
        panel.set_title(str(label), fontsize=10)
    figure.suptitle("First training images")
    return figure


def _show_digit(axes: Axes, image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
