"""The README, held against the product."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from mnist_lab.cli.app import app
from mnist_lab.execution.check import check_space
from mnist_lab.spaces import get_space

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for kind, text in BLOCKS
        if kind == "sh"
        for line in text.splitlines()
        if line.startswith("mnist-lab")
    }
    | set(re.findall(r"`(mnist-lab [^`\[]+)`", README))
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_readme_has_the_options_it_is_given(command):
    group = typer.main.get_command(app)
    _, name, *words = shlex.split(command)
    options = {option for each in group.commands[name].params for option in each.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_readme_shows_enough_commands_to_be_worth_testing():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("target", ["sweep", "test"])
def test_every_make_target_in_the_readme_exists(target):
    assert f"make {target}" in README
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists()


def test_the_space_that_the_readme_adds_builds_in_every_corner(tmp_path):
    source = next(text for kind, text in BLOCKS if kind == "python" and "@search_space" in text)
    (tmp_path / "tiny.py").write_text(source)
    space = get_space(f"{tmp_path}/tiny.py:tiny")
    assert space.id == "tiny-v1"
    assert check_space(space).builds == 9


def test_what_make_sweep_runs_is_what_the_readme_says():
    shown = re.search(r"runs `(mnist-lab sweep [^`]+)`", README).group(1)
    planned = subprocess.run(
        ["make", "-n", "sweep"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"/{shown}" in planned.stdout
