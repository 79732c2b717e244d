"""The README and the guide, held against the product."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
import typer

from documents import PAGES, README, ROOT, blocks, named, typed
from mnist_lab.cli.app import app
from mnist_lab.data import load_dataset
from mnist_lab.execution.check import check_space
from mnist_lab.spaces import get_space

TEXT = README.read_text()
COMMANDS = sorted(
    {
        command
        for page in PAGES
        for command in (*typed(page), *named(page))
        if command.startswith("mnist-lab ")
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_documents_is_one_that_mnist_lab_reads(command):
    _, name, *words = shlex.split(command)
    commands = typer.main.get_command(app).commands
    assert name in commands
    if words:  # a sentence may name a command without what it needs
        assert commands[name].make_context(name, words).info_name == name


def test_the_documents_show_enough_commands_to_be_worth_testing():
    assert len(COMMANDS) >= 30


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 180


def test_the_readme_begins_with_a_picture_and_shows_five_commands_with_their_output():
    assert re.search(r"!\[[^]]+\]\(docs/pictures/\w+\.png\)", TEXT[:1500])
    shown = [text for language, text in blocks(README) if language == "console"]
    assert len([text for text in shown if text.startswith("$ mnist-lab ")]) >= 5
    assert all(len(text.splitlines()) >= 2 for text in shown)


@pytest.mark.parametrize(
    "target",
    sorted({
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.M)
    }),
)  # fmt: skip
def test_every_make_target_in_the_documents_exists(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0


def test_ci_types_what_the_readme_names():
    wanted = re.findall(r"^make .+$", (ROOT / ".ci" / "run").read_text(), re.M)
    assert wanted
    assert [each for each in wanted if each not in list(typed(README))] == []


def test_the_space_that_the_guide_adds_builds_in_every_corner(tmp_path):
    page = ROOT / "docs" / "spaces.md"
    source = next(text for kind, text in blocks(page) if kind == "python")
    (tmp_path / "tiny.py").write_text(source)
    space = get_space(f"{tmp_path}/tiny.py:tiny")
    assert space.id == "tiny-v1"
    assert check_space(space, load_dataset()).builds == 9


def test_what_make_sweep_runs_is_what_the_readme_says():
    shown = re.search(r"^make sweep +# (mnist-lab sweep .+?)(?: *:.*)?$", TEXT, re.M).group(1)
    planned = subprocess.run(
        ["make", "-n", "sweep"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"/{shown}\n" in planned.stdout
