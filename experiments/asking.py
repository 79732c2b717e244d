"""What it costs that a model's code asks for its parameters: milliseconds a parameter.

``python experiments/asking.py [--parameters 50] [--trials 30]``: a study of a model that asks for so
many numbers, in one worker; each build notes how long its questions took, from the first to the last
answer. The supervisor draws with TPE, as in every sweep. Median, quartiles, n.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SPACE = """
import os, time
import keras

def build(trial, input_shape, classes):
    began = time.perf_counter()
    for number in range(int(os.environ["ASKED"])):
        trial.suggest_float(f"p{{number}}", 0.0, 1.0)
    with open({notes!r}, "a") as notes:
        notes.write(f"{{time.perf_counter() - began}}\\n")
    model = keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(),
                              keras.layers.Dense(classes, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", type=int, default=50)
    parser.add_argument("--trials", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, notes = Path(folder), Path(folder) / "notes"
        (home / "space.py").write_text(SPACE.format(notes=str(notes)))
        with np.load(str(Path(__file__).parents[1] / "src/mnist_lab/data/mnist.npz")) as whole:
            np.savez(
                home / "small.npz",
                **{f"{axis}_train": whole[f"{axis}_train"][:720] for axis in "xy"},
            )
        for sampler in ("tpe", "random"):
            notes.unlink(missing_ok=True)
            subprocess.run(
                [
                    str(Path(sys.executable).parent / "mnist-lab"), "sweep",
                    f"{home / 'space.py'}:build", "--trials", str(given.trials), "--epochs", "1",
                    "--workers", "1", "--sampler", sampler, "--study", sampler,
                    "--dataset", str(home / "small.npz"),
                ],
                env={**os.environ, "MNIST_LAB_HOME": str(home), "ASKED": str(given.parameters)},
                capture_output=True,
                check=True,
            )  # fmt: skip
            # Of a trial's builds only the first asks; the others are answered by the worker itself.
            seconds = np.sort([float(line) for line in notes.read_text().split()])
            asked = 1000 * seconds[-given.trials :] / given.parameters
            low, middle, high = np.percentile(asked, [25, 50, 75])
            print(
                f"{sampler}: {middle:.2f} ms a parameter (quartiles {low:.2f} to {high:.2f}), "
                f"n={len(asked)} builds of {given.parameters} parameters"
            )


if __name__ == "__main__":
    main()
