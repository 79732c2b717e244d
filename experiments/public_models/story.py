"""Ten public models through mnist-lab: swept, confirmed, promoted, predicted with, exported.

``python experiments/public_models/story.py [NAME ...]``: types the commands as a user would, from a
folder that is not the home, on 5,000 + 1,000 images of MNIST, and prints a table in Markdown.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
MODELS = {
    "kt_getting_started": "build_model",
    "kt_batch_size": "MyHyperModel",
    "kt_custom_loop": "MyHyperModel",
    "kt_conditional_scope": "ConditionalHyperModel",
    "kt_helloworld": "hypermodel",
    "handson_ml3": "MyClassificationHyperModel",
    "keras_mnist_convnet": "build_model",
    "keras_train_step": "build_model",
    "tf_quickstart_beginner": "build_model",
    "tf_quickstart_expert": "build_model",
    "tf_augmentation": "build_model",
    "keras_toy_resnet": "build_model",
    "optuna_keras_simple": "build",
}
TRIALS, EPOCHS = 6, 2


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_data(root)
        (root / "stand").mkdir()
        print(
            "| model | sweep | confirm | promote | predict | export keras, saved_model | best | s |"
        )
        print("|---|---|---|---|---|---|--:|--:|")
        for name in names or list(MODELS):
            print(story(root, name, data), flush=True)
        left = sorted(path.name for path in (root / "stand").iterdir())
        print(f"\nLeft in the folder that one stood in: {left or 'nothing'}.")


def write_data(root: Path) -> Path:
    with np.load(str(files("mnist_lab.data") / "mnist.npz")) as whole:
        parts = {f"{axis}_train": whole[f"{axis}_train"][:6000] for axis in "xy"}
        parts |= {f"{axis}_test": whole[f"{axis}_test"][:1000] for axis in "xy"}
        np.savez(root / "small.npz", **parts)
        np.save(root / "digits.npy", whole["x_test"][:5])
    return root / "small.npz"


def story(root: Path, name: str, data: Path) -> str:
    reference = f"{HERE / name}.py:{MODELS[name]}"
    began, cells, best = time.monotonic(), [], ""
    sweep = ["sweep", reference, "--trials", TRIALS, "--epochs", EPOCHS, "--study", name]
    steps = {
        "sweep": [*sweep, "--dataset", data, "--json"],
        "confirm": ["confirm", name, "--top", 2, "--seeds", 2, "--json"],
        "promote": ["promote", name, "--top", 2, "--seeds", 2, "--force", "--json"],
    }
    model = ""
    for step, words in steps.items():
        code, out, err = run(root, name, *words)
        cells.append("yes" if not code else f"no: {err[-200:]}")
        if not code and step == "sweep":
            result = json.loads(out)
            best = f"{result['leaderboard'][0]['val_accuracy']:.2%}"
            cells[-1] = f"{result['finished']} of {TRIALS}" + (
                f", failed: {result['reasons']}" if result["reasons"] else ""
            )
        if not code and step == "promote":
            found = json.loads(out)
            model = f"{found['name']}/{found['version']}"
    code, out, err = run(root, name, "predict", model, root / "digits.npy", "--json")
    cells.append(
        " ".join(str(each["label"]) for each in json.loads(out)["predictions"])
        if not code
        else f"no: {err[-200:]}"
    )
    exports = []
    for kind in ("keras", "saved_model"):
        code, out, err = run(root, name, "export", model, "--format", kind, "--json")
        exports.append("yes" if not code else f"no: {err[-200:]}")
    cells.append(", ".join(exports))
    return f"| `{name}` | {' | '.join(cells)} | {best} | {time.monotonic() - began:.0f} |"


def run(root: Path, name: str, *words: object) -> tuple[int, str, str]:
    environment = {**os.environ, "MNIST_LAB_HOME": str(root / f"home-{name}")}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mnist-lab"), *map(str, words)],
        cwd=root / "stand",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.strip().replace("\n", " ")


if __name__ == "__main__":
    main(sys.argv[1:])
