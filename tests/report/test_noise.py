"""The noise of single runs, and what more trials would bring."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_lab.report import advise, measure_noise, read_kept
from mnist_lab.report.noise import MORE_TRIALS, chance_of_gain
from mnist_lab.study import find_replicas
from studies import make_study


def test_without_replicas_or_predictions_noise_is_that_of_so_many_images(settings, small_dataset):
    study = make_study(settings, small_dataset, 12)
    noise = measure_noise(study)
    best = study.ranked()[0].val_accuracy
    assert noise.source == "count"
    assert noise.difference == pytest.approx(1.96 * math.sqrt(best * (1 - best) / 120), rel=1e-3)
    assert find_replicas(study) is None


def test_with_predictions_noise_is_that_of_the_images_on_which_the_best_differ(
    settings, small_dataset
):
    study = make_study(settings, small_dataset, 12, kept=2)
    kept = read_kept(study, study.ranked()[:2], settings)
    first, second = (kept[trial.number] for trial in study.ranked()[:2])
    labels = small_dataset.validation.labels
    differing = int(((first.classes == labels) != (second.classes == labels)).sum())
    noise = measure_noise(study, kept, small_dataset.validation)
    assert noise.source == "images"
    assert noise.difference == pytest.approx(1.96 * math.sqrt(differing) / 120, rel=1e-3)


def test_the_tied_are_counted_with_the_best(settings, small_dataset):
    study = make_study(settings, small_dataset, 12)
    noise = measure_noise(study)
    ranked = study.ranked()
    within = [t for t in ranked if ranked[0].score - t.score <= noise.difference]
    assert (noise.tied, noise.of) == (len(within), len(ranked))


def test_too_few_trials_are_given_no_advice(settings, small_dataset):
    study = make_study(settings, small_dataset, 20)
    assert advise(study, measure_noise(study)) == ()


def test_more_trials_cost_more_and_gain_more_often(settings, small_dataset):
    study = make_study(settings, small_dataset, 60)
    found = advise(study, measure_noise(study))
    assert [row.trials for row in found] == list(MORE_TRIALS)
    assert [row.seconds for row in found] == sorted(row.seconds for row in found)
    assert [row.chance for row in found] == sorted(row.chance for row in found)


@given(
    scores=st.lists(st.one_of(st.just(-math.inf), st.floats(0, 1)), min_size=1, max_size=80),
    gain=st.floats(0, 0.5),
    more=st.integers(1, 100),
)
def test_a_chance_is_a_chance_whatever_the_trials_were(scores, gain, more):
    chance = chance_of_gain(scores, gain, more)
    assert 0.0 <= chance <= 1.0
    assert chance_of_gain(scores, gain + 0.1, more) <= chance + 1e-12


def test_of_independent_draws_a_fifth_of_the_chance_is_said():
    drawing = np.random.default_rng(0)
    said, came = [], []
    for _ in range(400):
        draws = drawing.uniform(0.9, 1.0, 60)
        said.append(chance_of_gain(list(draws[:50]), 0.0005, 10))
        came.append(draws[50:].max() > draws[:50].max() + 0.0005)
    assert np.mean(said) == pytest.approx(np.mean(came) / 5, abs=0.02)
