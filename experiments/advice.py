"""Is the advice on more trials right? Recorded sweeps are replayed, and its chances held against them.

    mnist-lab sweep fnn --dataset digits --trials 80 --epochs 8 --seed 1 --study digits-1    # and so on
    python experiments/advice.py HOME [HOME ...]

At each trial from the twentieth complete one on, the chance that 10 or 25 more trials gain the noise of
single runs is computed from the trials until then, and compared with the trials that followed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from optuna.trial import TrialState

from mnist_lab.report import measure_noise
from mnist_lab.report.noise import MIN_TRIALS_FOR_ADVICE, chance_of_gain
from mnist_lab.settings import Settings
from mnist_lab.study import Ledger, is_confirmation, open_studies

BINS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0001)
AHEAD = (10, 25)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("homes", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = [
        row
        for home in options.homes
        for study in open_studies(Settings(home=home))
        if not is_confirmation(study.name)
        for row in replay(study)
    ]
    said = np.array([row[0] for row in found])
    came = np.array([row[1] for row in found])
    rows = []
    for low, high in itertools.pairwise(BINS):
        inside = (said >= low) & (said < high)
        if inside.any():
            rows.append(
                {
                    "said": f"{low:.0%} to {min(high, 1):.0%}",
                    "forecasts": int(inside.sum()),
                    "mean said": round(float(said[inside].mean()), 3),
                    "came": round(float(came[inside].mean()), 3),
                }
            )
    brier = float(np.mean((said - came) ** 2))
    constant = float(np.mean((came.mean() - came) ** 2))
    if options.json:
        print(json.dumps({"rows": rows, "brier": brier, "constant": constant}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    print(f"{len(found)} forecasts; Brier score {brier:.3f}, of the constant mean {constant:.3f}")


def replay(study: Ledger) -> Iterator[tuple[float, bool]]:
    """Yield what is said at each trial, and whether it came."""
    noise = measure_noise(study)
    if noise is None:
        return
    done = study.trials((TrialState.COMPLETE, TrialState.PRUNED))
    ordered = sorted(done, key=lambda trial: trial.ended)
    scores = [trial.score if trial.is_possible else -math.inf for trial in ordered]
    for now in range(1, len(scores)):
        before = scores[:now]
        if sum(map(math.isfinite, before)) < MIN_TRIALS_FOR_ADVICE:
            continue
        for ahead in AHEAD:
            if now + ahead <= len(scores):
                gained = max(scores[now : now + ahead]) >= max(before) + noise.difference
                yield chance_of_gain(before, noise.difference, ahead), gained


if __name__ == "__main__":
    main()
