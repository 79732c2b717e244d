from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from fakes import epoch_metrics
from mnist_lab.data.dataset import make_split
from mnist_lab.evaluation import evaluate
from mnist_lab.evaluation.figures import draw_dataset, draw_predictions, draw_trial, save


def perfect(split):
    return np.eye(10, dtype=np.float32)[split.labels]


def mistaken(split):
    wrong = np.eye(10, dtype=np.float32)[(split.labels + 1) % 10]
    return 0.75 * wrong + 0.25 * perfect(split)


@pytest.fixture(params=[perfect, mistaken], ids=["perfect", "always wrong"])
def figures(request, small_dataset):
    split = small_dataset.validation
    probabilities = request.param(split).astype(np.float32)
    history = [epoch_metrics(epoch, 0.5) for epoch in (1, 2, 3)]
    return draw_trial(evaluate(probabilities, split.labels), history, probabilities, split)


def test_a_trial_has_its_six_figures(figures):
    assert list(figures) == [
        "curves", "confusion_matrix", "roc", "precision_recall", "reliability", "mistakes",
    ]  # fmt: skip


def test_the_figures_are_pngs_wide_enough_to_read(figures, tmp_path):
    save(figures, tmp_path / "figures")
    for name in figures:
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert 600 <= image.width <= 1300, name


def test_the_curves_are_labelled_train_and_validation(figures):
    labels = [text.get_text() for text in figures["curves"].axes[0].get_legend().get_texts()]
    assert labels == ["train", "validation"]


def test_the_mistakes_say_what_was_taken_for_what(small_dataset):
    split = small_dataset.validation
    probabilities = mistaken(split)
    figure = draw_predictions(evaluate(probabilities, split.labels), probabilities, split)[
        "mistakes"
    ]
    first = int(split.labels[0])
    assert figure.axes[0].texts[0].get_text() == f"{first} taken for\n{(first + 1) % 10} (75% sure)"


def test_a_split_without_some_classes_is_drawn_too(small_dataset):
    few = np.flatnonzero(small_dataset.validation.labels < 3)
    split = make_split(small_dataset.validation.images[few], small_dataset.validation.labels[few])
    figures = draw_predictions(evaluate(mistaken(split), split.labels), mistaken(split), split)
    assert len(figures["precision_recall"].axes[0].get_lines()) == 3


def test_a_data_set_has_its_class_counts_and_first_images(small_dataset):
    figures = draw_dataset(small_dataset)
    assert set(figures) == {"class_counts", "first_images"}
    titles = [axes.get_title() for axes in figures["first_images"].axes]
    assert titles == [str(label) for label in small_dataset.train.labels[:9]]


def test_drawing_leaves_no_pyplot_figure_behind(figures):
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
