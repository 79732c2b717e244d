"""The story that the README tells, typed word for word on a part of MNIST, read with plain MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_lab.data.load import locate


@pytest.fixture
def part_of_mnist(tmp_path):
    """6,000 images to train, 1,200 to validate, 2,000 sealed."""
    file = tmp_path / "part.npz"
    with np.load(locate("mnist")) as whole:
        np.savez(
            file,
            x_train=whole["x_train"][:7200],
            y_train=whole["y_train"][:7200],
            x_test=whole["x_test"][:2000],
            y_test=whole["y_test"][:2000],
        )
    return file


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_confirm_promote_reject_promote_roll_back(settings, part_of_mnist, client):
    script = Path(sys.executable).parent / "mnist-lab"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KERAS", "MLFLOW_TR"))}

    def type_in(*words, code=0):
        done = subprocess.run(
            [str(script), *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def sweep(study, *words):
        type_in("sweep", "fnn", "--study", study, "--dataset", str(part_of_mnist),
                *words)  # fmt: skip

    gate = settings.root / "gate.toml"
    gate.write_text("minimum_accuracy = 0.8\n")

    def promote(study, code=0):
        words = ("promote", study, "--top", "2", "--gate", str(gate), "--json")
        return json.loads(type_in(*words, code=code))

    def champion():
        return client.get_registered_model("part-fnn").aliases["champion"]

    sweep("first", "--trials", "1", "--epochs", "3")
    promoted = promote("first")
    assert (promoted["promoted"], promoted["version"], int(champion())) == (True, 1, 1)

    sweep(
        "worse",
        "--trials",
        "1",
        "--epochs",
        "1",
        "--set",
        "learning_rate=0.0003",
        "--set",
        "units_1=64",
    )
    turned_away = promote("worse", code=1)
    judgement = turned_away["decision"]["judgement"]
    assert (judgement["verdict"], int(champion())) == ("tie", 1)
    assert judgement["public"]["gain"] < 0
    assert turned_away["decision"]["accuracy"] is None

    sweep("better", "--trials", "3", "--epochs", "12")
    promoted = promote("better")
    assert (promoted["decision"]["judgement"]["verdict"], int(champion())) == ("promote", 3)
    assert promoted["decision"]["judgement"]["comparison"]["low"] > 0

    assert "version 1 again" in type_in("rollback", "part-fnn")
    assert int(champion()) == 1
    assert "back from version 3" in type_in("models", "part-fnn")
    shown = client.get_model_version("part-fnn", "3")
    assert shown.tags["mnist_lab.verdict"] == "promote"
    assert shown.description == type_in("models", "part-fnn/3").rstrip("\n") + "\n"
    run = client.get_run(shown.run_id)
    assert {"decision", "card"} <= {each.path for each in client.list_artifacts(run.info.run_id)}
    assert "bit-exact" in type_in("reproduce", "first")
