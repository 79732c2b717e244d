"""The experiment files that ship, and the log's index: every entry is linked, every link resolves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mnist_lab.config import read_config
from mnist_lab.search.pruners import make_pruner
from mnist_lab.search.samplers import grid_points, make_sampler
from mnist_lab.spaces import get_space

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


def anchors(text):
    """The anchors that GitHub gives a page's headings, in their order."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings]


@pytest.fixture(scope="module")
def log():
    text = (FOLDER / "LOG.md").read_text(encoding="utf-8")
    index, _, _ = text.partition("\n## 20")
    return anchors(text), re.findall(r"\]\(#([^)]+)\)", index)


def test_every_dated_entry_of_the_log_is_linked_from_its_index(log):
    headings, links = log
    dated = [each for each in headings if re.match(r"20\d\d-\d\d-\d\d-", each)]
    assert dated
    assert [each for each in dated if each not in links] == []


def test_every_link_of_the_logs_index_leads_to_one_entry(log):
    headings, links = log
    assert {link: headings.count(link) for link in links} == dict.fromkeys(links, 1)


def test_every_line_of_the_logs_index_has_a_link():
    text = (FOLDER / "LOG.md").read_text(encoding="utf-8")
    lines = text[text.index("## By topic") : text.index("\n## 20")].splitlines()
    assert [line for line in lines if line.startswith("- ") and "](#20" not in line] == []
