from __future__ import annotations

import json
from dataclasses import fields

import pytest

from mnist_lab.config import SweepConfig, parse_config, parse_limits, read_config
from mnist_lab.errors import ConfigurationError


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "study.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_sets_every_field(write):
    values = {
        "space": "cnn", "trials": 3, "study": "s", "sampler": "random", "pruner": "none",
        "epochs": 2, "executor": "inline", "workers": 1, "device": "cpu", "workers_per_gpu": 2,
        "timeout": 5.0, "seed": 9, "dataset": "x.npz", "keep_models": 1, "max_failures": 4,
        "trial_timeout": 60.0, "retries": 2, "worker_memory": 900, "checkpoints": False,
        "objective": "val_f1_macro", "class_weights": "balanced", "image_size": 48,
        "most_duplicates": 0.5, "keep_predictions": False, "warm_start": "auto",
    }  # fmt: skip
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    file = write(
        "\n".join(
            [
                *lines,
                "[set]",
                "blocks = 2",
                "[grid]",
                "filters_1 = [8, 16]",
                "[limit]",
                "latency = '2ms'",
            ]
        )
    )
    config = read_config(file, {})
    assert {key: getattr(config, key) for key in values} == values
    assert (config.set, config.grid) == ({"blocks": 2}, {"filters_1": [8, 16]})
    assert config.limit == {"latency": "2ms"}
    assert {each.name for each in fields(SweepConfig)} == {*values, "set", "grid", "limit"}


@pytest.mark.parametrize("key", ["retries", "keep_models", "trial_timeout", "worker_memory"])
def test_a_value_that_cannot_be_is_refused(key):
    with pytest.raises(ConfigurationError, match=key):
        SweepConfig(space="cnn", **{key: -1})


def test_an_objective_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(ConfigurationError, match=r"no objective 'accuracy'.*val_auroc_macro"):
        SweepConfig(space="cnn", objective="accuracy")


@pytest.mark.parametrize("size", [3, 225])
def test_an_image_size_that_no_space_takes_is_refused(size):
    with pytest.raises(ConfigurationError, match="image_size must be 4 to 224"):
        SweepConfig(space="cnn", image_size=size)


def test_options_win_over_the_file(write):
    assert read_config(write('space = "cnn"\ntrials = 3'), {"trials": 8}).trials == 8


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_name(write):
    with pytest.raises(
        ConfigurationError, match=r"study.toml, line 2: unknown key 'trails'.*'trials'"
    ):
        read_config(write('space = "cnn"\ntrails = 3'), {})


def test_a_value_of_another_type_is_refused_with_its_line(write):
    with pytest.raises(ConfigurationError, match=r"line 2: trials: .*integer"):
        read_config(write('space = "cnn"\ntrials = "many"'), {})


def test_a_missing_space_is_refused(write):
    with pytest.raises(ConfigurationError, match="space"):
        read_config(write("trials = 3"), {})


def test_what_is_no_toml_is_refused(write):
    with pytest.raises(ConfigurationError, match="is no TOML"):
        read_config(write("space = "), {})


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    "changes", [{"trials": 0}, {"epochs": 0}, {"max_failures": 0}, {"keep_models": -1}]
)
def test_numbers_that_make_no_sense_are_refused(changes):
    with pytest.raises(ConfigurationError):
        parse_config({"space": "cnn", **changes})


def test_limits_are_given_with_units():
    limits = {"parameters": "100k", "latency": "2ms", "file_size": "1.5MB"}
    assert parse_limits(limits) == {"parameters": 1e5, "latency": 2.0, "file_size": 1.5e6}
    assert parse_limits({"latency": "0.5s", "parameters": 7}) == {"latency": 500, "parameters": 7}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"beauty": 1}, "no limit 'beauty'"),
        ({"latency": "2 parsecs"}, "latency=2ms"),
        ({"parameters": "many"}, "'many' is no limit of parameters"),
        ({"parameters": "-3"}, "more than 0"),
        ({"file_size": ""}, "file_size=2kB"),
    ],
)
def test_a_limit_that_is_none_is_refused(limits, said):
    with pytest.raises(ConfigurationError, match=said):
        SweepConfig(space="cnn", limit=limits)
