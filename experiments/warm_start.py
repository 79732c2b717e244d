"""How soon a search reaches an accuracy, with and without the points of earlier studies.

    python experiments/warm_start.py fnn --dataset PATH --target 0.895 --seeds 5

First one study of the space is made on MNIST; then, for each seed in turn, sweeps on the data set that
are stopped at the first epoch which reaches the target: with ``--warm-start`` and without. Printed are
seconds and epochs of both, in JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

LINE = re.compile(r"^ *([\d.]+) s \[.*trial (\d+) epoch (\d+)/\d+ val_accuracy ([\d.]+)")


def type_in(home: str, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "MNIST_LAB_HOME": home}
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_lab", *words],
        env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def race(home: str, target: float, *words: str) -> dict[str, float | None]:
    """Sweep until an epoch reaches ``target``; seconds and epochs until then, None if none did."""
    process, epochs, best = type_in(home, *words), 0, 0.0
    found: dict[str, float | None] = {"seconds": None, "epochs": None}
    assert process.stderr is not None
    for line in process.stderr:
        match = LINE.match(line)
        if match is None or found["epochs"] is not None:
            continue
        epochs, best = epochs + 1, max(best, float(match[4]))
        if best >= target:
            found = {"seconds": float(match[1]), "epochs": epochs}
            process.send_signal(signal.SIGINT)
    process.wait()
    return {**found, "best": best, "trained": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--target", type=float, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--donor-trials", type=int, default=16)
    parser.add_argument("--donor-epochs", type=int, default=5)
    parser.add_argument("--donor-pruner", default="halving", help="none: more trials to offer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        words = (
            "sweep", options.space, "--study", "donor", "--pruner", options.donor_pruner,
            "--trials", str(options.donor_trials), "--epochs", str(options.donor_epochs),
        )  # fmt: skip
        process = type_in(home, *words)
        process.communicate()
        for seed in range(options.seeds):
            row: dict[str, object] = {"space": options.space, "seed": seed}
            for way in ("none", "donor") if seed % 2 else ("donor", "none"):
                words = (
                    "sweep", options.space, "--dataset", options.dataset, "--seed", str(seed),
                    "--trials", str(options.trials), "--epochs", str(options.epochs),
                    "--study", f"{way}-{seed}", "--warm-start", way,
                )  # fmt: skip
                row[way] = race(home, options.target, *words)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
