from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lab.errors import InvalidParamsError, UnknownNameError
from mnist_lab.spaces import Condition, Constraint, SearchSpace, get_space, search_space
from mnist_lab.spaces.space import parse_assignment
from mnist_lab.spaces.values import describe_range


def make_space(**changes):
    declaration = {
        "name": "toy",
        "version": 1,
        "description": "a toy",
        "distributions": {
            "layers": IntDistribution(1, 3),
            "units_2": IntDistribution(8, 64, log=True),
            "units_3": IntDistribution(8, 64, step=8),
            "rate": FloatDistribution(0.0, 1.0),
            "kind": CategoricalDistribution(("a", "b", True)),
        },
        "defaults": {"layers": 1, "units_2": 8, "units_3": 16, "rate": 0.5, "kind": "a"},
        "conditions": {
            "units_2": (Condition(parent="layers", values=(2, 3)),),
            "units_3": (Condition(parent="layers", values=(3,)),),
        },
        "constraints": (
            Constraint(name="no wide third layer", allows=lambda p: p.get("units_3", 0) < 64),
        ),
    }
    return search_space(**{**declaration, **changes})(lambda params, shape, classes: None)


def test_the_baseline_holds_the_parameters_in_use_only():
    assert make_space().baseline == {"layers": 1, "rate": 0.5, "kind": "a"}


def test_a_change_brings_conditional_parameters_into_use_with_their_defaults():
    point = make_space().point({"layers": 3, "units_2": 32})
    assert point == {"layers": 3, "units_2": 32, "units_3": 16, "rate": 0.5, "kind": "a"}


def test_a_parameter_that_is_not_in_use_cannot_be_set():
    with pytest.raises(InvalidParamsError, match="units_2 is used when layers is 2 or 3"):
        make_space().point({"units_2": 32})


def test_an_unknown_parameter_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'units_2'"):
        make_space().point({"unit_2": 3})


@pytest.mark.parametrize(
    "changes",
    [{"layers": 4}, {"layers": 1.5}, {"rate": 2.0}, {"kind": "c"}, {"kind": 1}, {"rate": True}],
)
def test_a_value_outside_its_range_or_of_another_type_is_refused(changes):
    with pytest.raises(InvalidParamsError, match="is outside"):
        make_space().point(changes)


def test_a_value_off_the_step_is_refused():
    with pytest.raises(InvalidParamsError, match="step 8"):
        make_space().point({"layers": 3, "units_3": 12})


def test_a_whole_number_is_taken_where_a_float_is_meant():
    assert make_space().point({"rate": 1})["rate"] == 1.0
    assert isinstance(make_space().point({"rate": 1})["rate"], float)


def test_a_broken_constraint_is_named():
    with pytest.raises(InvalidParamsError, match="no wide third layer"):
        make_space().point({"layers": 3, "units_3": 64})


def test_a_space_must_have_a_default_for_every_parameter():
    with pytest.raises(InvalidParamsError, match="rate"):
        make_space(defaults={"layers": 1, "units_2": 8, "units_3": 8, "kind": "a"})


def test_a_condition_must_be_on_a_parameter_of_the_space():
    with pytest.raises(InvalidParamsError, match="ghost"):
        make_space(conditions={"ghost": (Condition(parent="layers", values=(1,)),)})


@pytest.mark.parametrize(
    "space", [make_space(), get_space("fnn"), get_space("cnn")], ids=lambda s: s.id
)
def test_a_declaration_survives_json(space):
    back = SearchSpace.from_dict(space.to_dict(), build=space.build)
    assert back.digest == space.digest
    assert back.baseline == space.baseline
    assert dict(back.conditions) == dict(space.conditions)


def test_another_range_is_another_digest():
    wider = {**make_space().distributions, "rate": FloatDistribution(0.0, 2.0)}
    assert make_space(distributions=wider).digest != make_space().digest


def test_another_description_is_the_same_digest():
    assert make_space(description="other words").digest == make_space().digest


@pytest.mark.parametrize(
    ("distribution", "text"),
    [
        (IntDistribution(8, 64, log=True), "8 to 64 (log)"),
        (IntDistribution(8, 64, step=8), "8 to 64 (step 8)"),
        (FloatDistribution(0.0, 0.6), "0 to 0.6"),
        (CategoricalDistribution(("relu", False)), "relu | False"),
    ],
)
def test_a_range_is_described_in_one_line(distribution, text):
    assert describe_range(distribution) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layers=2", ("layers", [2])),
        ("rate=1e-1", ("rate", [0.1])),
        ("kind=b,true", ("kind", ["b", True])),
    ],
)
def test_an_assignment_is_read_by_its_distribution(text, expected):
    assert parse_assignment(make_space(), text) == expected


@pytest.mark.parametrize("text", ["layers", "layers=two", "rate=fast", "kind=z"])
def test_a_malformed_assignment_is_refused(text):
    with pytest.raises(InvalidParamsError):
        parse_assignment(make_space(), text)


def test_an_assignment_to_an_unknown_parameter_is_refused():
    with pytest.raises(UnknownNameError):
        parse_assignment(make_space(), "nope=1")


DEFAULTS = {"layers": 1, "units_2": 8, "units_3": 16, "rate": 0.5, "kind": "a"}


def on(parent, *values):
    return (Condition(parent=parent, values=values),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"defaults": {**DEFAULTS, "layers": 9}}, "default layers=9 is outside"),
        ({"defaults": {**DEFAULTS, "kind": "z"}}, "default kind='z' is outside"),
        ({"defaults": {**DEFAULTS, "units_3": 12}}, r"units_3=12 is outside 8 to 64 \(step 8\)"),
        ({"conditions": {"rat": on("layers", 2)}}, "'rat', which is no parameter.*'rate'"),
        ({"conditions": {"rate": on("layrs", 2)}}, "rate depends on 'layrs'.*'layers'"),
        ({"conditions": {"layers": on("kind", "a")}}, "must be declared before it"),
        ({"conditions": {"kind": on("layers", 7)}}, "layers=7 is outside"),
        ({"starts": ({"layers": 9},)}, "a start has layers=9 is outside 1 to 3"),
        ({"conditions": {"rate": Condition(parent="layers", values=(2,))}}, "a tuple of Condition"),
        ({"distributions": {**dict.fromkeys(DEFAULTS, (1, 3))}}, "no distribution of Optuna"),
        ({"starts": ({"layers_": 2},)}, "a start names 'layers_'.*'layers'"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused_when_it_is_made(changes, message):
    with pytest.raises(InvalidParamsError, match=message):
        make_space(**changes)
