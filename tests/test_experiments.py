"""The experiment files that ship: each is read, and its points lie in its space."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_lab.spaces import get_space
from mnist_lab.sweep import read_config
from mnist_lab.sweep.strategies import grid_points, make_pruner, make_sampler

FOLDER = Path(__file__).parent.parent / "experiments"
FILES = sorted(file for file in FOLDER.glob("*.toml") if file.name != "gate.toml")


def test_the_experiments_that_are_promised_are_there():
    assert {"cnn-baseline", "cnn-wide", "fnn-baseline"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_experiment_is_a_sweep_that_can_begin(file):
    config = read_config(file, {})
    space = get_space(config.space)
    space.point(config.set)
    make_pruner(config.pruner, epochs=config.epochs)
    make_sampler(config.sampler, seed=config.seed, trial=0, fixed=config.set)
    if config.sampler == "grid":
        assert len(list(grid_points(space, config.grid, config.set))) == config.trials - 1
    assert config.study == file.stem


@pytest.mark.parametrize("family", ["fnn", "cnn"])
def test_a_baseline_experiment_trains_the_notebooks_model(family):
    config = read_config(FILES[0].parent / f"{family}-baseline.toml", {})
    assert (config.trials, config.epochs, config.set) == (1, 10, {})
    assert get_space(config.space).baseline_size in (717_210, 1_386_506)
