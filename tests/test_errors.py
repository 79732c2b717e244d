from __future__ import annotations

from mnist_lab.errors import DataError, MissingExtraError, MnistLabError, UnknownNameError


def test_a_message_says_the_problem_then_what_is_safe_then_the_next_step():
    error = DataError("It is damaged.", safe="Nothing was trained.", next_step="Copy it again.")
    assert str(error) == "It is damaged. Nothing was trained. Copy it again."


def test_an_unknown_name_offers_the_nearest_one():
    assert "Did you mean 'cnn'?" in str(UnknownNameError("search space", "cmn", ["fnn", "cnn"]))


def test_an_unknown_name_with_nothing_near_lists_the_choices():
    text = str(UnknownNameError("sampler", "xyzzy", ["tpe", "random"]))
    assert "Did you mean" not in text
    assert "tpe, random" in text


def test_a_missing_extra_names_what_to_install():
    assert "pip install 'mnist-lab[gp]'" in str(MissingExtraError("The sampler", "torch", "gp"))


def test_every_error_has_an_exit_code_of_its_own_kind():
    codes = {DataError: 66, UnknownNameError: 64, MissingExtraError: 78, MnistLabError: 1}
    assert {kind: kind.exit_code for kind in codes} == codes
