"""What is built from this repository, installed where the repository is not."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")  # where ``make`` has put it
NEEDED = [  # what is no Python file, and that the program reads
    "mnist_lab/data/mnist.npz",
    "mnist_lab/data/LICENSE-MNIST.md",
    "mnist_lab/promotion/card.md.j2",
]
FOREIGN = {"tests", "mlruns", ".venv", "venv", "site-packages", "__pycache__", ".mnist-lab"}
FOREIGN_ENDINGS = (".db", ".pyc", ".tar.xz", ".lock")
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))


def run(*words: object, cwd: Path) -> str:
    """Run a command with nothing of the repository in its environment: what it prints."""
    own = ("PYTHON", "VIRTUAL_ENV", "MNIST_LAB_", "MLFLOW_TRACKING", "COV", "KERAS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source distribution, by kind."""
    if not UV.exists():
        pytest.skip("uv is not beside this Python; make puts it there")
    folder = tmp_path_factory.mktemp("built")
    run(UV, "build", "--out-dir", folder, ROOT, cwd=folder)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": source}


@pytest.fixture
def find_python(tmp_path):
    """The path of an interpreter of this version; skips the test where there is none."""

    def find(version: str) -> Path:
        # A shim of pyenv has the name of every version, and runs only those that are switched on.
        shown = "import sys; print(sys.executable, '%d.%d' % sys.version_info[:2])"
        candidates = [f"python{version}", *sorted(PYENV.glob(f"versions/{version}.*/bin/python"))]
        for candidate in candidates:
            try:
                said = run(candidate, "-c", shown, cwd=tmp_path).rsplit(maxsplit=1)
            except (OSError, AssertionError):
                continue
            if said[1] == version:
                return Path(said[0])
        pytest.skip(f"no Python {version} on this machine")

    return find


@pytest.fixture
def contents(built):
    """The files of the wheel or the source distribution, below its top folder."""

    def contents(kind: str) -> list[str]:
        if kind == "wheel":
            with zipfile.ZipFile(built[kind]) as wheel:
                return wheel.namelist()
        with tarfile.open(built[kind]) as source:
            return [name.partition("/")[2] for name in source.getnames()]

    return contents


@pytest.mark.slow  # builds both
@pytest.mark.parametrize(("kind", "root"), [("wheel", ""), ("sdist", "src/")])
def test_what_the_program_reads_is_in_it(contents, kind, root):
    assert {f"{root}{name}" for name in NEEDED} <= set(contents(kind))


@pytest.mark.slow  # builds both
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_no_test_run_or_environment_is_in_it(contents, kind):
    names = contents(kind)
    assert [name for name in names if FOREIGN & set(name.split("/"))] == []
    assert [name for name in names if name.endswith(FOREIGN_ENDINGS)] == []


@pytest.mark.slow  # installs TensorFlow, and trains
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_it_is_installed_and_sweeps_in_an_empty_folder(built, find_python, tmp_path, version, kind):
    environment, here = tmp_path / "environment", tmp_path / "here"
    here.mkdir()
    run(find_python(version), "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    constraint = ("--constraint", ROOT / "constraints.txt")
    run(UV, "pip", "install", "--python", python, *constraint, built[kind], cwd=tmp_path)
    script = environment / "bin" / "mnist-lab"
    words = ("sweep", "fnn", "--trials", "2", "--epochs", "1", "--json")
    swept = json.loads(run(script, *words, cwd=here))
    assert (swept["finished"], swept["reasons"]) == (2, {})
    assert sorted(row["trial"] for row in swept["leaderboard"]) == [0, 1]


def test_the_hooks_before_a_commit_are_the_commands_of_make_lint():
    recipe = re.search(r"^lint:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    lint = [shlex.split(line) for line in recipe.replace("$(BIN)", ".venv/bin").splitlines()]
    written = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (local,) = written["repos"]
    assert local["repo"] == "local"
    assert [shlex.split(hook["entry"]) for hook in local["hooks"]] == lint
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
