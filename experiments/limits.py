"""What a limit of the search brings, against a search without it that is filtered afterwards.

    python experiments/limits.py cnn --limit parameters=50000 --seeds 3

For each seed in turn two sweeps with the same seed. Printed are how many trained trials were within the
limit, the best of these, and the epochs and seconds that were spent, in JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time


def sweep(home: str, study: str, *words: str) -> float:
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "mnist_lab", "sweep", *words, "--study", study],
        env={**os.environ, "MNIST_LAB_HOME": home}, check=True, capture_output=True,
    )  # fmt: skip
    return time.monotonic() - began


def read(home: str, study: str, most: float) -> dict[str, float]:
    os.environ["MNIST_LAB_HOME"] = home
    from optuna.trial import TrialState

    from mnist_lab.settings import Settings
    from mnist_lab.study import open_study

    trials = open_study(Settings(), study).trials()
    trained = [trial for trial in trials if trial.history]
    complete = [trial for trial in trained if trial.state == TrialState.COMPLETE]
    within = [trial for trial in complete if trial.scalars["parameters"] <= most]
    return {
        "trials": len(trials),
        "trained": len(trained),
        "complete": len(complete),
        "complete and within": len(within),
        "best within": max((trial.value or 0.0 for trial in within), default=0.0),
        "epochs": sum(len(trial.history) for trial in trained),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space")
    parser.add_argument("--limit", default="parameters=50000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--dataset", default="mnist")
    options = parser.parse_args()
    most = float(options.limit.partition("=")[2])
    for seed in range(options.seeds):
        row: dict[str, object] = {"seed": seed}
        for way in ("limit", "filter") if seed % 2 else ("filter", "limit"):
            with tempfile.TemporaryDirectory() as home:
                words = (
                    options.space, "--trials", str(options.trials), "--epochs", str(options.epochs),
                    "--seed", str(seed), "--dataset", options.dataset,
                    *(("--limit", options.limit) if way == "limit" else ()),
                )  # fmt: skip
                seconds = sweep(home, way, *words)
                row[way] = {**read(home, way, most), "seconds": round(seconds, 1)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
