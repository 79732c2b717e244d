"""The README's commands, typed one after the other in a folder that is not the home."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_lab.data.sealed import open_test_split

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)
SCRIPT = Path(sys.executable).parent / "mnist-lab"
SHOWN = [
    line.split("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "sh"
    for line in text.splitlines()
    if line.startswith("mnist-lab")
]
# What the text names beside the blocks, for the model that those have made.
NAMED = """
mnist-lab studies
mnist-lab leaderboard
mnist-lab compare worse 0 1
mnist-lab models mnist-fnn
mnist-lab models mnist-fnn@champion
mnist-lab predict mnist-fnn@champion digit.npy
mnist-lab evaluate mnist-fnn@champion
mnist-lab export mnist-fnn@champion --format onnx
mnist-lab reproduce worse
mnist-lab train fnn --set dropout=0.2 --epochs 1
mnist-lab data
mnist-lab sync
mnist-lab doctor
mnist-lab doctor --repair
mnist-lab rollback mnist-fnn
""".strip().splitlines()


def shortened(command: str) -> str:
    """The same words with fewer trials and epochs: fifty trials of ten epochs take forty minutes."""
    command = re.sub(r"--trials \d+", "--trials 2", command)
    command = re.sub(r"--epochs \d+", "--epochs 1", command).replace("-5ep", "-1ep")
    if " sweep cnn " in command and "--epochs" not in command:
        command += " --epochs 1"
    return command


@pytest.mark.slow  # an hour's worth of trainings, shortened to minutes
@pytest.mark.timeout(2400)
def test_the_readmes_commands_work_from_another_folder(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    shutil.copytree(ROOT / "experiments", here / "experiments", ignore=lambda folder, names: [
        name for name in names if not name.endswith(".toml") and (Path(folder) / name).is_file()
    ])  # fmt: skip
    for kind, text in BLOCKS:
        if kind == "python" and text.startswith("# "):
            (here / text.splitlines()[0].removeprefix("# ")).write_text(text)
    np.save(here / "digit.npy", open_test_split().images[:1])
    before = sorted(here.rglob("*"))
    environment = {**os.environ, "MNIST_LAB_HOME": str(tmp_path / "home")}
    said = {}
    for command in [*SHOWN, *NAMED]:
        words = shlex.split(shortened(command))
        done = subprocess.run(
            [str(SCRIPT), *words[1:]],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        said[command] = f"{done.stdout}\n{done.stderr}"
        # 1 is the gate's "not promoted", and then there is nothing to roll back to.
        allowed = (0, 1) if words[1] in ("promote", "rollback") else (0,)
        assert done.returncode in allowed, said[command]
    assert [each for each in sorted(here.rglob("*")) if each not in before] == []
    assert "Verdict" in said["mnist-lab promote fnn-baseline"]
    assert "0 to 9" in said["mnist-lab predict mnist-fnn@champion digit.npy"]
