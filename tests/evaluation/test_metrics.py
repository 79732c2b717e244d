from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mnist_lab.evaluation import evaluate
from mnist_lab.evaluation.metrics import expected_calibration_error


def predictions(n=500, skill=3.0, classes=10):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n).astype(np.uint8)
    scores = rng.normal(size=(n, 10)).astype(np.float32)
    scores[np.arange(n), labels] += skill
    probabilities = np.exp(scores)
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels


def test_accuracy_and_loss_are_those_of_the_definitions():
    probabilities, labels = predictions()
    evaluation = evaluate(probabilities, labels)
    assert evaluation.accuracy == np.mean(probabilities.argmax(axis=1) == labels)
    expected = -np.log(probabilities[np.arange(500), labels]).mean()
    assert evaluation.loss == pytest.approx(expected, rel=1e-5)


def test_the_confusion_matrix_has_true_classes_in_rows():
    probabilities = np.eye(10, dtype=np.float32)[[1, 1, 2]]
    evaluation = evaluate(probabilities, np.array([1, 0, 2], np.uint8))
    assert (
        evaluation.confusion[0, 1] == evaluation.confusion[1, 1] == evaluation.confusion[2, 2] == 1
    )
    assert evaluation.confusion.sum() == 3


def test_per_class_numbers_follow_from_the_confusion_matrix():
    probabilities, labels = predictions(skill=1.0)
    evaluation = evaluate(probabilities, labels)
    right = np.diag(evaluation.confusion)
    for label, row in enumerate(evaluation.per_class):
        assert row["recall"] == pytest.approx(right[label] / evaluation.confusion[label].sum())
        assert row["precision"] == pytest.approx(
            right[label] / evaluation.confusion[:, label].sum()
        )
        assert row["support"] == np.sum(labels == label)


def test_aurocs_are_scikit_learns():
    probabilities, labels = predictions(skill=1.0)
    evaluation = evaluate(probabilities, labels)
    assert evaluation.auroc_macro == pytest.approx(
        roc_auc_score(
            labels, probabilities / probabilities.sum(axis=1, keepdims=True), multi_class="ovr"
        ),
        abs=1e-6,
    )
    assert set(evaluation.roc) == {*map(str, range(10)), "micro"}


def test_a_class_that_never_occurs_has_no_curve():
    probabilities, labels = predictions(classes=3)
    assert set(evaluate(probabilities, labels).roc) == {"0", "1", "2", "micro"}


def test_a_sure_and_always_right_model_is_perfectly_calibrated():
    probabilities = np.eye(10, dtype=np.float32)
    assert expected_calibration_error(probabilities, np.arange(10, dtype=np.uint8)) == 0.0


def test_a_sure_model_that_is_half_right_is_wrong_by_a_half():
    probabilities = np.eye(10, dtype=np.float32)[[0, 0, 0, 0]]
    labels = np.array([0, 0, 1, 1], np.uint8)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.5)


def test_probabilities_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        evaluate(np.full((2, 10), np.nan, np.float32), np.zeros(2, np.uint8))


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="one row a label"):
        evaluate(*predictions()[:1], np.zeros(3, np.uint8))


def test_the_documents_are_json_and_keep_every_number():
    documents = evaluate(*predictions()).to_json()
    assert set(documents) == {"confusion_matrix", "classification_report", "roc"}
    back = json.loads(json.dumps(documents))
    assert np.sum(back["confusion_matrix"]["counts"]) == 500
    assert len(back["classification_report"]["classes"]) == 10
    curve = back["roc"]["curves"]["0"]
    assert len(curve["false_positive_rate"]) == len(curve["true_positive_rate"]) <= 200


def test_the_scalars_carry_the_split_in_their_names():
    scalars = evaluate(*predictions()).scalars("val")
    assert {"val_auroc_macro", "val_auroc_micro", "val_auroc_7", "val_calibration_error"} <= set(
        scalars
    )
