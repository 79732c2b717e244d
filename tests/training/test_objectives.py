"""What a training is judged by."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from mnist_lab.config import OBJECTIVES
from mnist_lab.evaluation import evaluate
from mnist_lab.spaces import get_space
from mnist_lab.training import TrainingPlan, train
from mnist_lab.training.epochs import EpochMetrics, History
from mnist_lab.training.objectives import MEASURES
from mnist_lab.training.train import flip_images


def epoch(number, objective, **values):
    given = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5, **values}
    return EpochMetrics(epoch=number, seconds=1.0, timestamp=0.0, objective=objective, **given)


def test_the_best_epoch_has_the_best_objective():
    values = [(0.6, 0.9, 0.3), (0.7, 0.4, 0.2), (0.5, 0.5, 0.8)]
    for objective, best in (("val_accuracy", 2), ("val_loss", 2), ("val_f1_macro", 3)):
        epochs = tuple(
            epoch(
                n,
                objective,
                val_accuracy=a,
                val_loss=loss,
                measured=f if objective in MEASURES else None,
            )
            for n, (a, loss, f) in enumerate(values, start=1)
        )
        assert History(epochs=epochs).best.epoch == best


def test_an_impossible_measure_is_not_possible():
    assert not epoch(1, "val_f1_macro", measured=1.5).possible


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_training_reports_its_objective(small_dataset, objective):
    space = get_space("fnn")
    point = space.point({"units_1": 32, "hidden_layers": 1, "normalisation": "scale"})
    model = space.build(point, (28, 28), 10)
    plan = TrainingPlan(epochs=1, batch_size=50, seed=0, objective=objective)
    split = small_dataset.validation
    history = train(model, training=small_dataset.train, validation=split, plan=plan, classes=10)
    found = evaluate(model.predict(split.images, verbose=0), split.labels)
    expected = {
        "val_accuracy": found.accuracy,
        "val_loss": found.loss,
        "val_f1_macro": found.f1_macro,
        "val_auroc_macro": found.auroc_macro,
        "val_balanced_accuracy": metrics.balanced_accuracy_score(
            split.labels, model.predict(split.images, verbose=0).argmax(axis=1)
        ),
    }[objective]
    assert history.best.value == pytest.approx(expected, abs=1e-4)
    assert history.scalars()[f"best_{objective}"] == history.best.value


def test_a_balanced_epoch_draws_every_class_equally_often():
    from mnist_lab.training.train import _order

    labels = np.array([0] * 900 + [1] * 100, np.uint8)
    order = _order(labels, np.random.default_rng(0), balanced=True)
    assert len(order) == 1000
    assert labels[order].mean() == pytest.approx(0.5, abs=0.05)


def test_half_of_the_images_are_mirrored():
    images = np.arange(200 * 2 * 3).reshape(200, 2, 3).astype(np.uint8)
    found = flip_images(images, np.random.default_rng(0))
    same = (found == images).all(axis=(1, 2))
    assert (found[~same] == images[~same][:, :, ::-1]).all()
    assert 70 < same.sum() < 130
