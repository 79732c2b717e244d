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

from mnist_lab.data import Dataset, Split
from mnist_lab.evaluation.metrics import CALIBRATION_BINS, MICRO, Evaluation, one_hot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mnist_lab.training import EpochMetrics

DPI = 100
MISTAKES = 25
MOST_NUMBERED = 20  # classes: more cells have no room for a number
MOST_CURVES = 12
TILE = 28  # pixels of a small picture's side on a sheet
LONGEST_NAME = 12  # characters under a picture


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
        "mistakes": draw_mistakes(probabilities, split, evaluation.class_names),
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
    """Draw counts, and below them the shares of each true class; numbers up to ``MOST_NUMBERED``."""
    classes = len(evaluation.class_names)
    figure = Figure(figsize=(7.5, 14))
    top, bottom = figure.subplots(2, 1)
    longest = max(map(len, evaluation.class_names))
    room = min(0.08 + 0.008 * longest, 0.25)  # for the names of the classes
    figure.subplots_adjust(
        left=room, right=0.97, top=0.93, bottom=room / 2 + 0.01, hspace=0.15 + room
    )
    counts = evaluation.confusion
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = {"cmap": "Blues", "colorbar": False, "include_values": classes <= MOST_NUMBERED}
    names = evaluation.class_names
    upright = longest > 2
    rotation = "vertical" if upright else "horizontal"
    for panel, values, numbers in ((top, counts, "d"), (bottom, shares, ".1f")):
        display = ConfusionMatrixDisplay(values, display_labels=names)
        display.plot(ax=panel, values_format=numbers, xticks_rotation=rotation, **shown)
        panel.tick_params(labelsize=10 if classes <= MOST_NUMBERED else 6)
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
    for name in [*_hardest(evaluation), MICRO]:
        curve = evaluation.roc[name]
        display = RocCurveDisplay(fpr=curve.false_positive_rate, tpr=curve.true_positive_rate)
        style = {"linestyle": ":", "color": "black"} if name == MICRO else {}
        display.plot(ax=whole, curve_kwargs={**style, "label": f"{name} ({curve.auroc:.4f})"})
        display.plot(ax=corner, curve_kwargs=style)
    if len(evaluation.roc) - 1 > MOST_CURVES:
        rates, means = _mean_curve(evaluation)
        for panel in (whole, corner):
            panel.plot(rates, means, color="black", label=f"mean ({evaluation.auroc_macro:.4f})")
    whole.plot([0, 1], [0, 1], "--", color="grey", label="chance (0.5000)")
    whole.legend(title="class (AUROC)", loc="lower right", fontsize="small")
    corner.set(xlim=(0, 0.05), ylim=(0.95, 1.0), title="Upper left corner")
    if corner.get_legend() is not None:
        corner.get_legend().remove()
    figure.suptitle(f"ROC, one against the rest: macro AUROC {evaluation.auroc_macro:.4f}")
    return figure


def _hardest(evaluation: Evaluation) -> list[str]:
    """Return the classes whose curves are drawn: all, or of many those of the least areas."""
    names = [name for name in evaluation.roc if name != MICRO]
    if len(names) <= MOST_CURVES:
        return names
    return sorted(names, key=lambda name: evaluation.roc[name].auroc)[: MOST_CURVES - 2]


def _mean_curve(evaluation: Evaluation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean over classes of the true positive rates at 500 false positive rates."""
    rates = np.linspace(0, 1, 500)
    curves = [
        np.interp(rates, curve.false_positive_rate, curve.true_positive_rate)
        for name, curve in evaluation.roc.items()
        if name != MICRO
    ]
    return rates, np.mean(curves, axis=0)


def draw_precision_recall(
    evaluation: Evaluation, probabilities: NDArray[np.float32], labels: NDArray[np.uint8]
) -> Figure:
    """Draw precision against recall, one class against the rest; a good model's corner only."""
    low = 0.8 if evaluation.accuracy > 0.9 else 0.0
    figure = Figure(figsize=(8, 6))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.1, right=0.97, top=0.93, bottom=0.1)
    truth = one_hot(labels, probabilities.shape[1])
    hardest = _hardest(evaluation)
    for label, name in enumerate(evaluation.class_names):
        if truth[:, label].any() and (name in hardest or f"class {name}" in hardest):
            PrecisionRecallDisplay.from_predictions(
                truth[:, label], probabilities[:, label], ax=axes, name=name
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


def draw_mistakes(
    probabilities: NDArray[np.float32], split: Split, class_names: Sequence[str]
) -> Figure:
    """Draw the worst mistakes: those with the lowest probability of the true class."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != split.labels)
    belief = probabilities[wrong, split.labels[wrong]]
    worst = wrong[np.argsort(belief, kind="stable")][:MISTAKES]
    figure = Figure(figsize=(8, 8.5))
    axes = figure.add_axes((0.03, 0.01, 0.94, 0.93))
    # One picture of 5x5 tiles: 25 pairs of axes take five times as long.
    scale = max(1, TILE // split.images.shape[1])
    rows, columns = (size * scale for size in split.images.shape[1:3])
    above, beside = round(0.43 * rows), round(0.5 * columns)
    height, width = rows + above, columns + beside
    sheet = np.full((5 * height, 5 * width, *split.images.shape[3:]), 255, np.uint8)
    for place, index in enumerate(worst):
        row, column = divmod(place, 5)
        top, left = row * height + above, column * width + beside // 2
        tile = split.images[index].repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[top : top + rows, left : left + columns] = tile
        sure = probabilities[index, predicted[index]]
        axes.text(
            left + columns / 2,
            top - 0.07 * rows,
            f"{_short(class_names[split.labels[index]])} taken for\n"
            f"{_short(class_names[predicted[index]])} ({sure:.0%} sure)",
            fontsize=8,
            ha="center",
            va="bottom",
        )
    _show(axes, sheet)
    figure.suptitle(f"Worst of {len(wrong):,} mistakes in {len(split):,} images")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def draw_dataset(dataset: Dataset) -> dict[str, Figure]:
    """Draw the two figures of a data set, by file name."""
    names = dataset.form.class_names
    return {
        "class_counts": draw_class_counts(dataset.train, dataset.validation, names),
        "first_images": draw_first_images(dataset.train, names),
    }


def draw_class_counts(train: Split, validation: Split, class_names: Sequence[str]) -> Figure:
    """Draw the number of images of each class in the two splits."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    few = len(class_names) <= MOST_NUMBERED
    for offset, (name, split) in zip(
        (-0.2, 0.2), (("train", train), ("validation", validation)), strict=True
    ):
        counts = np.bincount(split.labels, minlength=len(class_names))
        bars = axes.bar(
            np.arange(len(counts)) + offset, counts, width=0.4, label=f"{name} ({len(split):,})"
        )
        if few:
            axes.bar_label(bars, fontsize=6, rotation=90, padding=2)
    axes.set(xlabel="class", ylabel="images", title="Images of each class")
    upright = max(map(len, class_names)) > 2
    axes.set_xticks(
        range(len(class_names)),
        [_short(name) for name in class_names],
        rotation=90 if upright else 0,
        fontsize=10 if few else 5,
    )
    axes.margins(y=0.15)
    axes.legend()
    return figure


def draw_first_images(train: Split, class_names: Sequence[str]) -> Figure:
    """Draw the first nine training images, as the notebook shows them."""
    figure = Figure(figsize=(6, 6.4), layout="constrained")
    for panel, image, label in zip(
        figure.subplots(3, 3).ravel(), train.images, train.labels, strict=False
    ):
        _show(panel, image)
        panel.set_title(class_names[label], fontsize=10)
    figure.suptitle("First training images")
    return figure


def _show(axes: Axes, image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
