"""Spaces that ask: names, answers, Optuna's words, and what a survey of builds says."""

from __future__ import annotations

import warnings

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lab.errors import ConfigurationError, InvalidParamsError, MnistLabError
from mnist_lab.spaces.asking import Answers, AskingTrial, recorded
from mnist_lab.spaces.question import Names, Question, answer_default, choose
from mnist_lab.spaces.ranges import float_range, int_range, middle, nearest
from mnist_lab.spaces.registry import get_space, load_space, run_description
from mnist_lab.spaces.survey import condition_of, survey


def question(name="units", distribution=None, scope=(), default=8):
    distribution = distribution or IntDistribution(8, 64)
    return Question(name=name, distribution=distribution, default=default, scope=scope)


SMALL = question(scope=(("kind", ("small",)),))
LARGE = question(scope=(("kind", ("large",)),), distribution=IntDistribution(64, 128), default=64)


def test_the_first_parameter_of_a_name_has_it_and_the_second_a_longer_one():
    names = Names({})
    assert names.key(SMALL, {}) == "units"
    assert names.key(LARGE, {}) == "units.kind.large"
    assert names.key(SMALL, {}) == "units"


def test_names_go_on_as_they_were_when_a_study_is_resumed():
    names = Names({})
    names.key(LARGE, {})
    again = Names(names.taken)
    assert again.key(SMALL, {}) == "units.kind.small"
    assert again.key(LARGE, {}) == "units"


def test_other_choices_under_one_name_are_another_parameter():
    names = Names({})
    few = question("kernel", CategoricalDistribution((3, 5)), default=3)
    many = question("kernel", CategoricalDistribution((3, 5, 7)), default=3)
    assert [names.key(few, {}), names.key(many, {})] == ["kernel", "kernel.3|5|7"]


def test_another_range_under_one_name_is_the_same_parameter():
    names = Names({})
    assert names.key(question(), {}) == names.key(question(distribution=IntDistribution(1, 9)), {})


@pytest.mark.parametrize("first", [SMALL, LARGE])
def test_a_record_answers_whatever_names_its_study_gave(first):
    names = Names({})
    names.key(first, {})
    record = {names.key(SMALL, {}): 9}
    assert recorded(record)(SMALL) == 9
    record = {names.key(LARGE, {}): 99}
    assert recorded(record)(LARGE) == 99


def test_a_question_is_asked_once_however_often_the_model_is_built():
    asked = []
    answers = Answers(ask=lambda each: asked.append(each) or 16)
    assert [answers(question()), answers(question())] == [16, 16]
    assert (len(asked), answers.values) == (1, {"units": 16})


def test_an_answer_is_the_authors_own_choice_also_after_json():
    with warnings.catch_warnings():  # Optuna wants no tuples, and takes them
        warnings.simplefilter("ignore", UserWarning)
        choices = CategoricalDistribution(((3, 3), (5, 5)))
    answers = Answers(ask=lambda _: [5, 5])
    assert answers(question("kernel", choices, default=(3, 3))) == (5, 5)


@pytest.mark.parametrize(
    ("wanted", "value"), [("16", 16), (16.0, 16), (16, 16)], ids=["text", "float", "int"]
)
def test_a_wanted_value_is_read_in_the_parameters_type(wanted, value):
    found = choose(question(), wanted, "--set")
    assert (found, type(found)) == (value, int)


@pytest.mark.parametrize("wanted", [7, 16.5, "many", None, True])
def test_a_wanted_value_outside_the_range_is_refused(wanted):
    with pytest.raises(InvalidParamsError, match=r"--set units=.* is outside 8 to 64"):
        choose(question(), wanted, "--set")


def test_ranges_end_at_their_last_step():
    assert int_range(10, 95, step=20) == IntDistribution(10, 90, step=20)
    assert float_range(0.0, 0.55, step=0.1) == FloatDistribution(0.0, 0.5, step=0.1)


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (CategoricalDistribution(("a", "b")), "a"),
        (IntDistribution(1, 3), 2),
        (FloatDistribution(1e-4, 1e-2, log=True), 1e-3),
        (FloatDistribution(0.0, 0.4, step=0.2), 0.2),
    ],
)
def test_without_a_default_the_middle_stands_for_it(distribution, expected):
    assert middle(distribution) == pytest.approx(expected) if expected != "a" else "a"


def test_the_nearest_value_of_a_range_is_in_it():
    assert nearest(IntDistribution(16, 64, step=16), 30) == 32
    assert nearest(IntDistribution(16, 64, step=16), 500) == 64


def test_optunas_words_become_questions():
    asked = []
    trial = AskingTrial(lambda each: asked.append(each) or each.default)
    trial.suggest_int("n", 1, 5)
    trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    trial.suggest_categorical("act", ["relu", "elu"])
    trial.set_user_attr("note", 1)
    assert [each.distribution for each in asked] == [
        IntDistribution(1, 5),
        FloatDistribution(1e-4, 1e-2, log=True),
        CategoricalDistribution(("relu", "elu")),
    ]
    assert trial.params == {"n": 3, "lr": 1e-3, "act": "relu"}


@pytest.mark.parametrize("call", [lambda t: t.report(0.1, 1), lambda t: t.should_prune()])
def test_a_build_that_trains_by_itself_is_told_what_to_delete(call):
    with pytest.raises(ConfigurationError, match=r"trial\.report.*delete the training loop"):
        call(AskingTrial(answer_default))


def test_a_survey_finds_what_the_default_build_does_not_reach(strangers):
    found = survey(load_space(f"{strangers}:Loops"), builds=40)
    conditions = {each["name"]: each["condition"] for each in found["parameters"]}
    assert conditions == {
        "num_layers": "",
        "units_0": "",
        "units_1": "num_layers is 2 or 3",
        "units_2": "num_layers is 3",
        "lr": "",
    }
    assert (found["builds"], found["failures"]) == (40, {})


def test_no_condition_is_seen_in_a_parameter_of_many_values():
    points = [{"lr": each / 100, **({"x": 1} if each % 2 else {})} for each in range(40)]
    assert condition_of("x", points) == "in 20 of 40 builds"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("UnknownArguments", r"needs width.*model = UnknownArguments\(width="),
        ("takes_too_much", r"takes \(hp, width\).*def build_model\(hp\)"),
        ("LOSSES", "not a search space"),
        ("Lops", "Did you mean 'Loops'"),
    ],
)
def test_what_is_no_space_is_refused_with_the_line_to_write(strangers, name, message):
    with pytest.raises(MnistLabError, match=message):
        load_space(f"{strangers}:{name}")


def test_an_instance_and_a_class_with_known_arguments_are_spaces(strangers):
    for name in ("instance", "KnownArguments"):
        model = load_space(f"{strangers}:{name}").build({}, (28, 28), 10)
        assert type(model).__name__ == "Sequential"


def test_a_file_without_a_name_asks_for_one(strangers):
    with pytest.raises(
        ConfigurationError, match=r"which of its spaces.* Loops.*strangers\.py:NAME"
    ):
        get_space(str(strangers))


def test_a_space_that_asks_is_known_by_its_sources_and_described_without_keras(strangers):
    found = get_space(f"{strangers}:build")
    assert found.asks
    assert found.digest == found.sources == load_space(f"{strangers}:build").digest
    assert found.id == "strangers-v1"  # ``build`` says nothing
    assert run_description(f"{strangers}:build")["description"].endswith("Optuna's words")
