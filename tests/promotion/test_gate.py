"""The gate's arithmetic and its policy file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mnist_lab.errors import ConfigurationError
from mnist_lab.promotion.gate import GatePolicy, Measured, bootstrap, judge, mcnemar, read_policy

LABELS = np.tile(np.arange(10), 1000).astype(np.uint8)
POLICY = GatePolicy()


def model(wrong=(), **changes):
    """A model that has all images right but those at ``wrong``."""
    predicted = LABELS.astype(np.int64)
    predicted[list(wrong)] = (predicted[list(wrong)] + 1) % 10
    fields = {"calibration_error": 0.01, "parameters": 1000, "file_size": 9000, "latency": 1.0}
    return Measured(predicted=predicted, **{**fields, **changes})


def test_a_model_that_is_certainly_better_is_promoted():
    judgement = judge(model(range(100)), model(range(150)), LABELS, POLICY)
    assert (judgement.verdict, judgement.comparison.gained, judgement.comparison.lost) == (
        "promote", 50, 0,
    )  # fmt: skip
    assert judgement.comparison.gain == pytest.approx(0.005)
    assert 0 < judgement.comparison.low < 0.005 < judgement.comparison.high


def test_a_model_that_is_certainly_worse_is_rejected_with_the_interval():
    judgement = judge(model(range(150)), model(range(100)), LABELS, POLICY)
    assert (judgement.verdict, judgement.reason) == (
        "reject", "certainly worse than the champion",
    )  # fmt: skip
    assert judgement.comparison.high < 0


def test_a_model_that_is_better_by_luck_perhaps_is_a_tie():
    judgement = judge(model(range(10, 20)), model(range(12)), LABELS, POLICY)
    assert (judgement.comparison.gained, judgement.comparison.lost) == (10, 8)
    assert judgement.verdict == "tie"


def test_a_model_that_predicts_the_same_is_a_tie():
    judgement = judge(model(range(7)), model(range(7)), LABELS, POLICY)
    assert (judgement.verdict, judgement.comparison.p_value) == ("tie", 1.0)


def test_a_gain_below_the_least_that_is_asked_is_a_tie():
    policy = replace(POLICY, minimum_gain=0.01)
    assert judge(model(range(100)), model(range(150)), LABELS, policy).verdict == "tie"


def test_a_better_model_that_forgets_one_class_is_rejected():
    before = [i for i in range(200) if LABELS[i] != 3] + list(range(200, 400))
    forgets = [i for i in range(10_000) if LABELS[i] == 3][:70]
    judgement = judge(model(forgets), model(before), LABELS, POLICY)
    assert judgement.comparison.gain > 0
    assert judgement.verdict == "reject"
    assert [each.name for each in judgement.criteria if not each.passed] == ["recall"]
    assert judgement.reason == "certainly better than the champion; limits not kept: recall"
    assert "class 3 loses most recall" in judgement.criteria[0].text


@pytest.mark.parametrize(
    ("name", "value"),
    [("calibration_error", 0.3), ("parameters", 10**8), ("file_size", 10**9), ("latency", 500.0)],
)
def test_each_limit_is_kept(name, value):
    judgement = judge(model(**{name: value}), model(range(500)), LABELS, POLICY)
    assert judgement.verdict == "reject"
    assert name in judgement.reason


def test_the_first_champion_needs_an_accuracy_only():
    assert judge(model(range(500)), None, LABELS, POLICY).verdict == "promote"
    assert judge(model(range(1500)), None, LABELS, POLICY).verdict == "reject"


def test_mcnemar_is_the_binomial_test_of_the_images_that_differ():
    # 2 * (C(12,0) + C(12,1) + C(12,2)) / 2^12
    assert mcnemar(10, 2, 10_000)[0] == pytest.approx(2 * 79 / 4096)


def test_both_tests_agree_where_there_is_much_to_count():
    exact, drawn = mcnemar(60, 40, 10_000), bootstrap(60, 40, 10_000)
    np.testing.assert_allclose(drawn, exact, atol=0.02)


def test_the_bootstrap_decides_the_same_every_time():
    policy = replace(POLICY, test="bootstrap")
    first, second = (judge(model(range(9)), model(range(20)), LABELS, policy) for _ in range(2))
    assert first == second
    assert first.comparison.method == "bootstrap"


def test_a_challenger_that_is_no_better_is_promoted_as_rarely_as_said():
    random = np.random.default_rng(0)
    promoted = 0
    for _ in range(2000):
        gained = random.binomial(60, 0.5)
        promoted += mcnemar(gained, 60 - gained, 10_000)[0] < 0.05 and gained > 30
    assert promoted / 2000 < 0.025 + 3 * np.sqrt(0.025 / 2000)


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
        ("test = 'mood'", "mcnemar"),
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
