"""The statistics of the gate, on simulated models whose truth is known, and on real ones."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mnist_lab.promotion.evidence import (
    NORMAL,
    Arm,
    Difference,
    bound_recall_losses,
    compare_arms,
    compare_public,
    detectable_gain,
    estimate_seed_variance,
    is_futile,
    is_not_worse,
    level_of,
    pick_shipped,
    standardise,
)

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

import promotion as simulation  # noqa: E402

CNN = simulation.WORLDS["cnn"]
LESS_ALIKE = simulation.WorldSpec(0.8, 0.9)
SEEDS_DIFFER = simulation.WorldSpec(0.9, 0.91, 0.0005)


def worlds(spec, count, seed=0):
    for child in np.random.SeedSequence(seed).spawn(count):
        yield simulation.World(spec, np.random.default_rng(child))


def three_sd(share, count):
    return 3 * (share * (1 - share) / count) ** 0.5


def arm(random, share, trainings=3, images=2000):
    """An arm with mistakes drawn one by one."""
    parts = {part: random.random((trainings, images)) < share for part in (2, 3, 4)}
    return Arm(parts=parts, sealed=random.random((3 * trainings + 2, images)) < share)


def full(world, configuration):
    return simulation.Side(configuration).arm(simulation.ROUNDS, opened=True)


@pytest.mark.parametrize("spec", [CNN, SEEDS_DIFFER, LESS_ALIKE], ids=["cnn", "seeds", "less"])
def test_equal_models_are_found_better_as_rarely_as_said(spec):
    count, better = 300, 0
    for world in worlds(spec, count):
        arms = [full(world, world.configuration(simulation.MEAN)) for _ in "12"]
        better += compare_arms(*arms).p_value < 0.05
    assert better / count <= 0.05 + three_sd(0.05, count)


def test_the_best_of_many_equal_models_is_not_found_better_either():
    count, better = 40, 0
    for world in worlds(CNN, count):
        sides = [
            simulation.confirm(simulation.search(world, trials, simulation.MEAN))
            for trials in (150, 10)
        ]
        arms = [side.arm(simulation.ROUNDS, opened=True) for side in sides]
        better += compare_arms(*arms).p_value < 0.05
    assert better / count <= 0.05 + three_sd(0.05, count)


def test_better_models_are_found_and_worse_ones_are_not_promoted():
    counts = Counter()
    for world in worlds(CNN, 300, seed=1):
        champion, challenger = (simulation.confirm(simulation.search(world)) for _ in "12")
        level = level_of(0.05, 1, 0)
        promoted = simulation.challenge(challenger, champion, level).promoted
        better = challenger.configuration.truth > champion.configuration.truth
        counts.update({"better": better, "found": better and promoted,
                       "promoted": promoted, "wrong": promoted and not better})  # fmt: skip
    assert counts["found"] / counts["better"] >= 0.60
    assert counts["wrong"] / counts["promoted"] <= 0.05


def test_the_interval_has_the_true_gain_as_often_as_said():
    count, inside = 300, 0
    for world in worlds(CNN, count, seed=2):
        first, second = world.configuration(), world.configuration()
        found = compare_arms(full(world, first), full(world, second))
        inside += found.low <= first.truth - second.truth <= found.high
    assert 0.92 <= inside / count <= 0.98


def test_twenty_equal_challengers_in_a_row_promote_as_rarely_as_said():
    found = simulation.simulate_repeated(CNN, 100, 20, 3)["new"]
    assert np.mean([each > 0 for each in found]) <= 0.05 + three_sd(0.05, 100)


def test_ensembles_are_promoted_over_equals_as_rarely_as_said_and_over_their_members():
    count, level = 100, level_of(0.05, 1, 0)
    found = simulation.simulate_ensembles(CNN, count, 5)
    most = level + three_sd(level, count)
    assert found["an equal ensemble"]["share"] <= most
    assert found["equal single trainings"]["share"] <= most
    assert found["its own single trainings"]["share"] >= 0.9


def promotes_an_equal(random, *, counts_futile):
    """Whether any of twenty equal challengers is promoted; each has evidence of its own.

    Gains are in standard deviations of what configurations differ by on the public images; that of
    trainings is as large, and there are a quarter as many sealed images.
    """
    tries = 0
    for _ in range(20):
        level = level_of(0.05, tries + 1, 0)
        on_images, luck = random.normal(), random.normal(size=simulation.ROUNDS)
        public = [
            Difference(gain=on_images + luck[:done].mean(), variance=1 + 1 / done, images=30_000)
            for done in range(1, simulation.ROUNDS + 1)
        ]
        if any(is_futile(each, done) for done, each in enumerate(public, start=1)):
            tries += counts_futile
            continue
        tries += 1
        precisions = np.array([1 / public[-1].variance, 1 / 4])
        gains = np.array([public[-1].gain, random.normal(scale=2)])
        if 1 - NORMAL.cdf(precisions @ gains / precisions.sum() ** 0.5) < level:
            return True
    return False


def test_challenges_that_ended_early_count_or_equals_were_promoted_too_often():
    random, count = np.random.default_rng(0), 1000
    counted, uncounted = (
        np.mean([promotes_an_equal(random, counts_futile=counts) for _ in range(count)])
        for counts in (True, False)
    )
    assert counted <= 0.05 + three_sd(0.05, count)
    assert uncounted > 0.05 + three_sd(0.05, count)


def test_challenges_that_were_all_held_at_one_level_would_promote_more_often():
    fooled = simulation.simulate_peeking(CNN, 60, 40, 4)
    assert fooled > 0.05 + three_sd(0.05, 60)


def test_swapping_the_sides_turns_the_gain_and_keeps_its_error():
    random = np.random.default_rng(0)
    first, second = arm(random, 0.02), arm(random, 0.03)
    one, other = compare_arms(first, second), compare_arms(second, first)
    assert one.gain == pytest.approx(-other.gain)
    assert one.error == pytest.approx(other.error)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_equal_predictions_show_nothing():
    first = arm(np.random.default_rng(0), 0.02, trainings=1)
    same = Arm(parts=first.parts, sealed=np.repeat(first.sealed[:1], 5, axis=0))
    found = compare_arms(same, same)
    assert (found.gain, found.error, found.p_value, found.is_worse) == (0.0, 0.0, 0.5, False)


def test_a_part_that_only_one_has_left_out_counts_for_nothing():
    random = np.random.default_rng(0)
    first, second = arm(random, 0.02), arm(random, 0.03)
    more = Arm(parts={**first.parts, 0: random.random((1, 50)) < 0.9}, sealed=first.sealed)
    assert compare_arms(more, second).gain == compare_arms(first, second).gain


def test_a_champion_of_a_single_file_is_compared_on_sealed_images_alone():
    random = np.random.default_rng(0)
    first = arm(random, 0.01)
    found = compare_arms(first, Arm(parts={}, sealed=random.random((1, 2000)) < 0.05))
    assert found.public is None
    assert found.trainings == (11, 1)
    assert found.p_value < 0.001


def test_the_minimum_gain_is_what_must_be_exceeded():
    random = np.random.default_rng(0)
    arms = arm(random, 0.02), arm(random, 0.025)
    assert compare_arms(*arms).p_value < 0.01
    assert compare_arms(*arms, minimum_gain=0.005).p_value > 0.05
    assert not compare_arms(*arms, minimum_gain=0.1).is_worse


def test_models_that_are_a_little_worse_are_shown_to_be_so_by_less_than_a_margin():
    random = np.random.default_rng(0)
    found = compare_arms(arm(random, 0.021), arm(random, 0.02))
    assert is_not_worse(found, 0.01, 0.03)
    assert not is_not_worse(found, 0.0001, 0.03)


def test_levels_fall_with_challenges_and_rise_with_promotions():
    assert level_of(0.05, 1, 0) == pytest.approx(0.0304, abs=1e-4)
    assert level_of(0.05, 2, 0) == pytest.approx(0.0076, abs=1e-4)
    assert level_of(0.05, 2, 1) == pytest.approx(2 * level_of(0.05, 2, 0))
    assert sum(level_of(0.05, each, 0) for each in range(1, 10_000)) < 0.05


def test_the_smallest_detectable_gain_is_found_four_times_of_five():
    random = np.random.default_rng(0)
    error, level = 0.001, 0.03
    gain = detectable_gain(error, level)
    drawn = random.normal(gain, error, 20_000)
    assert np.mean(drawn / error > NORMAL.inv_cdf(1 - level)) == pytest.approx(0.8, abs=0.01)


def test_trainings_without_an_effect_of_their_own_have_none():
    random = np.random.default_rng(0)
    found = [estimate_seed_variance(random.random((9, 10_000)) < 0.01) for _ in range(200)]
    assert np.mean(found) ** 0.5 < 0.0006
    assert estimate_seed_variance(random.random((1, 100)) < 0.5) == 0.0


def test_the_effect_of_a_training_is_estimated():
    random = np.random.default_rng(0)
    found = []
    for _ in range(200):
        share = np.clip(random.normal(0.05, 0.005, (9, 1)), 0, 1)
        found.append(estimate_seed_variance(random.random((9, 10_000)) < share))
    assert np.mean(found) ** 0.5 == pytest.approx(0.005, rel=0.1)


def test_a_challenge_ends_when_it_is_behind_or_hardly_ahead():
    behind = Difference(gain=-0.0001, variance=1e-6, images=30_000)
    hardly = Difference(gain=0.0003, variance=1e-6, images=30_000)
    ahead = Difference(gain=0.001, variance=1e-6, images=30_000)
    assert [is_futile(behind, each) for each in (1, 2, 3)] == [True, True, False]
    assert [is_futile(hardly, each) for each in (1, 2, 3)] == [False, True, False]
    assert [is_futile(ahead, each) for each in (1, 2, 3)] == [False, False, False]
    assert not is_futile(behind, 1, margin=0.001)
    equal = Difference(gain=0.0, variance=0.0, images=30_000)
    assert is_futile(equal, 1)
    assert not is_futile(equal, 1, margin=0.001)


def test_recall_is_lost_only_where_a_class_is_shown_to_lose_it():
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 10_000).astype(np.uint8)
    equal = [random.random((9, 10_000)) < 0.02 for _ in "12"]
    forgets = equal[0] | ((labels == 3) & (random.random((9, 10_000)) < 0.1))

    def losses(wrong):
        arms = (Arm(parts={}, sealed=each) for each in (wrong, equal[1]))
        return bound_recall_losses(*arms, {}, labels)

    assert max(low for _, low in losses(equal[0]).values()) < 0.005
    loss, low = losses(forgets)[3]
    assert loss == pytest.approx(0.1, abs=0.02)
    assert 0.05 < low < loss
    assert max(low for label, (_, low) in losses(forgets).items() if label != 3) < 0.005


def test_of_a_class_with_few_images_no_loss_is_shown():
    right, wrong = (Arm(parts={}, sealed=np.full((3, 4), each)) for each in (False, True))
    assert bound_recall_losses(wrong, right, {}, np.zeros(4, np.uint8)) == {0: (1.0, -1.0)}


def test_a_part_of_one_image_is_left_aside():
    random = np.random.default_rng(0)
    first, second = arm(random, 0.02), arm(random, 0.03)
    arms = [Arm(parts={**each.parts, 4: each.parts[4][:, :1]}, sealed=each.sealed)
            for each in (first, second)]  # fmt: skip
    assert compare_public(*arms).images == 4000


def test_the_file_that_ships_is_the_first_unless_it_is_worse_than_the_others():
    random = np.random.default_rng(0)
    wrong = random.random((5, 10_000)) < 0.02
    assert pick_shipped(wrong, [0, 1, 2]) == 0
    wrong[0] |= random.random(10_000) < 0.02
    assert pick_shipped(wrong, [0, 1, 2]) == 1
    assert pick_shipped(wrong[:1], [0]) == 0


def test_seeds_of_one_configuration_differ_by_as_much_as_their_error_says():
    """Real classes of 8 trainings of one FNN on MNIST's validation images, in all halves."""
    stored = np.load(ROOT / "tests" / "promotion" / "eight_seeds.npz")
    wrong = np.unpackbits(stored["wrong"], axis=1)[:, : int(stored["images"])].astype(bool)
    z = []
    for half in combinations(range(8), 4):
        rest = [row for row in range(8) if row not in half]
        found = compare_public(Arm(parts={0: wrong[list(half)]}), Arm(parts={0: wrong[rest]}))
        z.append(standardise(found.gain, found.variance**0.5))
    assert 0.8 <= np.sqrt(np.mean(np.square(z))) <= 1.25


def test_a_lone_file_is_given_the_effect_of_a_seed_that_an_ensemble_shows_a_part_of():
    random = np.random.default_rng(0)
    share = np.clip(random.normal(0.05, 0.005, (9, 1)), 0, 1)
    several = random.random((9, 10_000)) < share
    alone = random.random((1, 10_000)) < 0.05
    files = [compare_arms(Arm(parts={}, sealed=several, members=members),
                          Arm(parts={}, sealed=alone)) for members in (1, 4)]  # fmt: skip
    seed = estimate_seed_variance(several)
    assert files[1].error ** 2 - files[0].error ** 2 == pytest.approx(3 * seed)
