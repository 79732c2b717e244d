"""The gate's arithmetic and its policy file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_lab.errors import ConfigurationError
from mnist_lab.promotion.decision import describe_judgement
from mnist_lab.promotion.evidence import Comparison, Difference
from mnist_lab.promotion.gate import (
    Costs,
    GatePolicy,
    Test,
    judge,
    judge_first,
    judge_unopened,
    read_policy,
)

POLICY = GatePolicy()
COSTS = Costs(parameters=1000, file_size=9000, latency=1.0)
TEST = Test(challenge=1, level=0.0304, significance=0.05)
NO_LOSS = {"3": (0.001, -0.002)}


def compared(gain=0.001, error=0.0002, p_value=1e-5, public=30_000, sealed=10_000, **changes):
    given = Comparison(
        gain=gain, error=error, low=gain - 2 * error, high=gain + 2 * error, p_value=p_value,
        minimum_gain=0.0, trainings=(11, 11),
        public=Difference(gain=gain, variance=error**2, images=public),
        sealed=Difference(gain=gain, variance=error**2, images=sealed),
    )  # fmt: skip
    return replace(given, **changes)


def judged(comparison=None, policy=POLICY, *, losses=NO_LOSS, costs=COSTS, smaller=False):
    found = comparison or compared()
    return judge(found, losses, 0.01, costs, policy, TEST, is_smaller=smaller)


def test_a_model_that_is_shown_to_be_better_is_promoted():
    judgement = judged()
    assert (judgement.verdict, judgement.reason) == ("promote", "better than the champion")
    assert all(each.passed for each in judgement.criteria)


def test_a_model_that_is_not_shown_to_be_better_is_a_tie():
    judgement = judged(compared(p_value=0.031))
    assert (judgement.verdict, judgement.reason) == ("tie", "not shown to be better")


def test_a_model_that_is_shown_to_be_worse_is_rejected():
    judgement = judged(compared(gain=-0.001, p_value=0.99999))
    assert (judgement.verdict, judgement.reason) == ("reject", "worse than the champion")


def test_a_gain_below_the_least_that_is_asked_is_no_loss():
    policy = replace(POLICY, minimum_gain=0.01)
    judgement = judged(compared(p_value=1.0, minimum_gain=0.01), policy)
    assert judgement.verdict == "tie"
    assert judgement.reason == "not shown to be better by more than 1.00%"


def test_a_smaller_model_need_not_be_better_where_a_margin_is_given():
    found, policy = compared(gain=-0.0001, p_value=0.6), replace(POLICY, margin=0.001)
    assert judged(found, policy, smaller=True).verdict == "promote"
    assert judged(found, policy).verdict == "tie"
    assert judged(found, smaller=True).verdict == "tie"


def test_a_better_model_that_forgets_one_class_is_rejected():
    judgement = judged(losses={**NO_LOSS, "5": (0.05, 0.02)})
    assert judgement.reason == "better than the champion; limits not kept: recall"
    assert judgement.verdict == "reject"
    assert "class 5 loses 5.00 points of recall, at least 2.00" in judgement.criteria[0].text


def test_a_class_that_may_have_lost_by_luck_is_not_held_against_a_model():
    assert judged(losses={"5": (0.05, 0.0)}).verdict == "promote"


@pytest.mark.parametrize(
    ("name", "value"), [("parameters", 10**8), ("file_size", 10**9), ("latency", 500.0)]
)
def test_each_limit_is_kept(name, value):
    judgement = judged(costs=replace(COSTS, **{name: value}))
    assert judgement.verdict == "reject"
    assert name in judgement.reason


def test_a_model_that_is_too_sure_is_rejected():
    judgement = judge_first(0.95, 0.3, COSTS, POLICY)
    assert judgement.verdict == "reject"
    assert "calibration_error" in judgement.reason


def test_the_first_champion_needs_an_accuracy_only():
    assert judge_first(0.95, 0.01, COSTS, POLICY).verdict == "promote"
    judgement = judge_first(0.85, 0.01, COSTS, POLICY)
    assert (judgement.verdict, judgement.reason) == ("reject", "limits not kept: accuracy")


def test_smaller_is_a_fifth_less_of_parameters_or_of_time():
    assert replace(COSTS, parameters=800).is_smaller_than(COSTS)
    assert replace(COSTS, parameters=5000, latency=0.8).is_smaller_than(COSTS)
    assert not replace(COSTS, parameters=801, latency=0.81).is_smaller_than(COSTS)
    assert not COSTS.is_smaller_than(replace(COSTS, latency=math.inf))  # not measured


def test_a_promotion_says_gain_interval_images_level_and_count():
    (said,) = describe_judgement(judged(compared(gain=0.0009, p_value=0.00002)))
    assert said == (
        "Better than the champion: +0.09 points (95 % interval +0.05 to +0.13), 11 trainings of each, "
        "on 30,000 public images left out of training and 10,000 sealed ones; p = 0.00002, asked "
        "0.0304 (challenge 1)."
    )


def test_a_tie_says_which_gain_would_be_found():
    said = describe_judgement(judged(compared(gain=0.0002, p_value=0.17)))
    assert said[0].startswith("Not shown to be better: +0.02 points (95 % interval -0.02 to +0.06)")
    assert said[1] == "A true gain of 0.05 points would be found 4 times of 5."


def test_a_challenge_that_ends_early_says_that_nothing_was_opened():
    behind = Difference(gain=-0.0003, variance=1e-8, images=30_000)
    judgement = judge_unopened(behind, 1, replace(TEST, challenge=3))
    (said,) = describe_judgement(judgement)
    assert said == (
        "Behind on 30,000 public images after 3 trainings (-0.03 points): the sealed images were not "
        "opened. This was challenge 3."
    )
    assert judge_unopened(replace(behind, gain=0.0), 1, TEST).reason.startswith("not ahead")


def test_few_images_are_said_to_show_large_gains_only():
    said = describe_judgement(judged(compared(error=0.01, public=200)))
    assert said[-1] == "So few images show large gains only: one of 2.7 points, 4 times of 5."


def test_a_p_value_is_never_zero():
    (said,) = describe_judgement(judged(compared(p_value=1e-30)))
    assert "p = less than 0.00001" in said


def test_the_documented_policy_file_has_every_key_at_its_default():
    file = Path(__file__).parents[2] / "experiments" / "gate.toml"
    assert read_policy(file) == GatePolicy()
    for key in GatePolicy.__dataclass_fields__:
        assert f"\n{key} = " in file.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("significanse = 0.1", "significanse"),
        ("significance = 2", "significance"),
        ("significance = 0", "significance"),
        ("test = 'mcnemar'", "Delete the line"),
        ("maximum_parameters = 0", "maximum_parameters"),
        ("test = ", "no TOML"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_with_its_key(tmp_path, text, said):
    file = tmp_path / "gate.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_policy(file)


def test_a_policy_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read"):
        read_policy(tmp_path / "none.toml")
