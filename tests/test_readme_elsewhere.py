"""The commands of the documents, typed one after the other in a folder that is not the home."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from documents import PAGES, ROOT, blocks, named, typed
from mnist_lab.data.sealed import find_test_split

SCRIPT = Path(sys.executable).parent / "mnist-lab"
SHOWN = list(
    dict.fromkeys(
        command for page in PAGES for command in typed(page) if command.startswith("mnist-lab ")
    )
)
# What the text names beside the blocks, for the models that those have made.
NAMED = """
mnist-lab spaces cnn
mnist-lab models mnist-cnn@champion
mnist-lab models mnist-fnn
mnist-lab evaluate mnist-cnn@champion
mnist-lab export mnist-cnn@champion --format onnx
mnist-lab reproduce mnist-cnn-v2-3ep
mnist-lab confirm
""".strip().splitlines()
SERVERS = {"ui": "health", "dashboard": "dashboard"}
# The gate may say no, and then there is nothing to take back.
MAY_DECLINE = ("promote", "rollback")


def shortened(command: str) -> str:
    """The same words with fewer trials and epochs: fifty trials of ten epochs take forty minutes."""
    command = re.sub(r"--trials \d+", "--trials 2", command)
    command = re.sub(r"--epochs \d+", "--epochs 1", command)
    command = re.sub(r"-v2-\d+ep\b", "-v2-1ep", command)
    if re.search(r" (sweep cnn|train) ", command) and "--epochs" not in command:
        command += " --epochs 1"
    if command.endswith("cnn-wide.toml"):
        command += " --trials 2 --epochs 1"
    return command


def test_the_text_names_what_is_typed_for_it():
    assert set(NAMED) <= {command for page in PAGES for command in named(page)}


@pytest.mark.slow  # an hour's worth of trainings, shortened to minutes
@pytest.mark.timeout(7200)
def test_the_documents_commands_work_from_another_folder(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    shutil.copytree(ROOT / "experiments", here / "experiments", ignore=lambda folder, names: [
        name for name in names if not name.endswith(".toml") and (Path(folder) / name).is_file()
    ])  # fmt: skip
    for page in PAGES:
        for kind, text in blocks(page):
            if kind == "python" and text.startswith("# "):
                (here / text.splitlines()[0].removeprefix("# ")).write_text(text)
    digit = find_test_split().open().images[0]
    Image.fromarray(np.uint8(255) - digit).resize((112, 112)).save(here / "digit.png")
    for row, (name, shade) in enumerate((("day", 200), ("night", 60))):
        (here / "photos" / name).mkdir(parents=True)
        for picture in range(40):
            pixels = np.random.default_rng([row, picture]).normal(shade, 20, (40, 30, 3))
            file = here / "photos" / name / f"{picture}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    before = sorted(here.rglob("*"))
    environment = {**os.environ, "MNIST_LAB_HOME": str(tmp_path / "home")}
    said = {}
    for command in [*SHOWN, *NAMED]:
        words = [str(SCRIPT), *shlex.split(shortened(command))[1:]]
        words = [word for word in words if word != "--open"]  # there is no browser here
        if words[1] in SERVERS:
            assert answers(words, here, environment)
            continue
        done = subprocess.run(
            words, cwd=here, env=environment, capture_output=True, text=True, check=False
        )
        said[command] = f"{done.stdout}\n{done.stderr}"
        allowed = (0, 1) if words[1] in MAY_DECLINE else (0,)
        assert done.returncode in allowed, said[command]
    before += [here / "reports", *(here / "reports").iterdir()]  # what --csv and --html name
    assert [each for each in sorted(here.rglob("*")) if each not in before] == []
    assert "\nVerdict: " in said["mnist-lab promote fnn-baseline"]
    assert "7" in said["mnist-lab predict mnist-cnn@champion digit.png"]


def answers(words: list[str], here: Path, environment: dict[str, str]) -> bool:
    """Whether the server that ``words`` start answers; it is stopped then."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [*words, "--port", str(port)], cwd=here, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(120):
            with suppress(OSError):
                return (
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/{SERVERS[words[1]]}").status
                    == 200
                )
            time.sleep(1)
        return False
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow  # fetches the build backend; that it installs and sweeps: test_packaging.py
def test_the_readme_builds_the_wheel_that_it_installs(tmp_path):
    build, *installs = (
        shlex.split(line) for line in typed(PAGES[0]) if "wheel" in line or ".whl" in line
    )
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    subprocess.run([sys.executable, "-m", *build], cwd=tmp_path, check=True, capture_output=True)
    for words in installs:
        assert len(list(tmp_path.glob(words[-1]))) == 1
