"""Points that were tried are not tried again while others never were."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lab.search.seen import MOST_VALUES, SeenPoints, values_of

AB = {"a": CategoricalDistribution((0, 1)), "b": CategoricalDistribution(("x", "y"))}


def tried(*points, distributions=AB):
    seen = SeenPoints()
    for number, point in enumerate(points):
        seen.note(number, point, distributions)
    return seen


def draw(seen, before, name, value, distributions=AB):
    return seen.unseen(before, distributions[name], value, np.random.default_rng(0))


def test_a_point_that_was_tried_is_exchanged_for_one_that_was_not():
    seen = tried({"a": 0, "b": "x"})
    assert draw(seen, [0], "b", "x") == "y"
    assert draw(seen, [0], "b", "y") == "y"
    assert draw(seen, [1], "b", "x") == "x"


def test_a_value_all_of_whose_points_were_tried_is_not_drawn():
    seen = tried({"a": 0, "b": "x"}, {"a": 0, "b": "y"})
    assert draw(seen, [], "a", 0) == 1


def test_when_every_point_was_tried_they_are_tried_again():
    points = [{"a": a, "b": b} for a in (0, 1) for b in ("x", "y")]
    assert draw(tried(*points), [], "a", 0) == 0


def test_a_branch_that_ends_earlier_is_exhausted_by_itself():
    seen = tried({"a": 0})  # only 1 is asked for b
    assert draw(seen, [], "a", 0) == 1
    assert draw(seen, [1], "b", "x") == "x"


def test_true_and_one_are_two_values():
    mixed = {"a": CategoricalDistribution((1, True))}
    assert draw(tried({"a": 1}, distributions=mixed), [], "a", 1, mixed) is True


def test_points_with_a_continuous_parameter_are_never_exhausted():
    distributions = {"a": AB["a"], "lr": FloatDistribution(0, 1)}
    seen = tried({"a": 0, "lr": 0.5}, distributions=distributions)
    assert draw(seen, [], "a", 0, distributions) == 0


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (IntDistribution(1, 7, step=3), [1, 4, 7]),
        (IntDistribution(1, 3, log=True), [1, 2, 3]),
        (FloatDistribution(0.0, 0.3, step=0.1), [0.0, 0.1, 0.2, 0.3]),
        (FloatDistribution(0.5, 0.5), [0.5]),
        (FloatDistribution(0.0, 0.3), None),
        (IntDistribution(1, 2 * MOST_VALUES), None),
    ],
)
def test_the_values_of_a_parameter_are_counted_where_they_can_be(distribution, values):
    assert values_of(distribution) == values
