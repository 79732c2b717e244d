"""Trials compared image by image."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_lab.evaluation import Predictions
from mnist_lab.execution import TrialFiles
from mnist_lab.report import mistakes, read_kept
from mnist_lab.report.images import compare_pair, find_mistakes
from studies import keep, make_study, predictions

NAMES = tuple("0123456789")


def model(labels, changes, confidence=0.9):
    """Predictions that are right but for ``changes``: the class answered by index."""
    answers = labels.astype(int)
    for index, answer in changes.items():
        answers[index] = answer
    shares = np.full((len(answers), 10), (1 - confidence) / 9, np.float32)
    shares[np.arange(len(answers)), answers] = confidence
    return Predictions(classes=answers.astype(np.uint8), probabilities=shares)


@pytest.fixture
def validation(small_dataset):
    return small_dataset.validation


def other(label):
    return (int(label) + 1) % 10


def test_a_label_is_suspected_where_all_models_agree_on_another_and_are_sure(validation):
    labels = validation.labels
    wrong = other(labels[7])
    found = find_mistakes(
        "s",
        {"a": model(labels, {7: wrong, 3: other(labels[3])}), "b": model(labels, {7: wrong})},
        validation,
        NAMES,
    )
    assert [row.index for row in found.suspects] == [7]
    assert [row.index for row in found.missed_by_all] == [7]
    assert [row.index for row in found.split] == [3]
    suspect = found.suspects[0]
    assert (suspect.label, suspect.said) == (str(labels[7]), str(wrong))
    assert suspect.place == "train[607]"


def test_what_all_miss_differently_is_no_suspected_label(validation):
    labels = validation.labels
    models = {
        "a": model(labels, {7: other(labels[7])}),
        "b": model(labels, {7: (int(labels[7]) + 2) % 10}),
    }
    found = find_mistakes("s", models, validation, NAMES)
    assert [row.index for row in found.missed_by_all] == [7]
    assert found.suspects == ()


def test_models_that_are_unsure_suspect_nothing(validation):
    labels = validation.labels
    models = {name: model(labels, {7: other(labels[7])}, confidence=0.4) for name in "ab"}
    assert find_mistakes("s", models, validation, NAMES).suspects == ()


def test_two_trials_differ_by_what_only_one_gets_right(validation):
    labels = validation.labels
    first = model(labels, {1: other(labels[1]), 2: other(labels[2])})
    second = model(labels, {2: other(labels[2]), 5: other(labels[5]), 6: other(labels[6])}, 0.8)
    found = compare_pair((4, first), (9, second), validation, NAMES)
    assert (found.only_first, found.only_second, found.both_wrong) == (2, 1, 1)
    assert [row.index for row in found.only_first_images] == [5, 6]
    row = found.only_first_images[0]
    assert (row.said, row.confidence) == (str(other(labels[5])), pytest.approx(0.8, abs=0.01))
    assert sum(a for a, _ in found.by_class.values()) == 2


def test_predictions_are_read_of_the_trials_that_have_left_them(settings, small_dataset):
    study = make_study(settings, small_dataset, 12, kept=3)
    kept = read_kept(study, study.ranked(), settings)
    assert sorted(kept) == sorted(trial.number for trial in study.ranked()[:3])


def test_a_study_of_which_one_trial_has_predictions_has_no_mistakes(settings, small_dataset):
    study = make_study(settings, small_dataset, 12, kept=1)
    assert mistakes(study, settings, small_dataset) is None


def test_predictions_of_other_images_are_left_out(settings, small_dataset):
    study = make_study(settings, small_dataset, 12, kept=3)
    files = TrialFiles(settings.work / study.name)
    worst = study.ranked()[2].number
    keep(files, worst, predictions(small_dataset.train, 0.9, seed=0))
    found = mistakes(study, settings, small_dataset)
    assert len(found.trials) == 2
