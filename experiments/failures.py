"""How many trials fail in a space of which a third does, with failures hidden or shown.

    python experiments/failures.py --trials 50 --seeds 10
    python experiments/failures.py --trials 50 --seeds 5 --worker-memory 700

The trainer is a stub that runs out of memory where the first layer is wide, which is also where
accuracies are best: the sampler is drawn to the border. With ``--worker-memory`` real networks are
trained on scikit-learn's digits, in the space ``wide_space.py``, by workers that may hold so many MiB.
Printed are, for each seed and both ways, the failed trials, and the best accuracy.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from statistics import mean
from unittest import mock

from overhead import stub

from mnist_lab.config import SweepConfig
from mnist_lab.execution import FailureReason, TrialFailed, TrialFinished, TrialJob
from mnist_lab.settings import Settings
from mnist_lab.spaces import get_space
from mnist_lab.study import _optuna, open_study
from mnist_lab.sweep import launch
from mnist_lab.tracking import NullTracker
from mnist_lab.training import Report

UNITS = get_space("fnn").distributions["units_1"]
# A third of what is drawn evenly on the logarithm's scale is wider.
BORDER = math.exp(math.log(UNITS.high) - (math.log(UNITS.high) - math.log(UNITS.low)) / 3)


STUB = {"space": "fnn"}
REAL = {"space": f"{Path(__file__).with_name('wide_space.py')}:wide", "dataset": "digits"}
# A TensorFlow that is refused memory may die without a message: docs/limits.md.
OF_MEMORY = ("out_of_memory", "crashed")


def starve(job: TrialJob, dataset: object, report: Report) -> TrialFinished | TrialFailed:
    """Run out of memory beyond the border; else train as ``overhead.stub``, the wider the better."""
    units = float(job.params["units_1"])
    if units > BORDER:
        return TrialFailed(
            trial=job.trial, reason=FailureReason.OUT_OF_MEMORY, detail=f"{units:.0f} units"
        )
    gain = 0.03 * math.log(units / UNITS.low)
    finished = stub(job, dataset, report)
    best = min(1.0, finished.scalars["best_val_accuracy"] + gain)
    return TrialFinished(
        trial=job.trial,
        best_epoch=finished.best_epoch,
        scalars={**finished.scalars, "best_val_accuracy": best},
    )


def sweep(seed: int, trials: int, *, shown: bool, worker_memory: int | None) -> dict[str, float]:
    """One study; its failures, and its best."""
    reasons = _optuna._OF_THE_POINT if shown else []
    with (
        tempfile.TemporaryDirectory() as home,
        mock.patch.object(_optuna, "_OF_THE_POINT", reasons),
    ):
        settings = Settings(home=Path(home))
        of = STUB if worker_memory is None else {**REAL, "worker_memory": worker_memory}
        launch(
            SweepConfig(
                trials=trials, epochs=2, seed=seed, study="failures", pruner="none", workers=1,
                retries=0, max_failures=trials, keep_models=0, **of,
            ),
            settings,
            make_tracker=lambda *_: NullTracker(),
            **({"trainer": "failures:starve"} if worker_memory is None else {}),
        )  # fmt: skip
        study = open_study(settings, "failures")
        failed = sum(trial.reason in OF_MEMORY for trial in study.trials())
        return {"failed": failed, "best": round(study.ranked()[0].val_accuracy, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--worker-memory", type=int, metavar="MiB")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"hidden": [], "shown": []}
    for seed in range(options.seeds):
        for kind, rows in found.items():
            rows.append(
                sweep(
                    seed,
                    options.trials,
                    shown=kind == "shown",
                    worker_memory=options.worker_memory,
                )
            )
            print(json.dumps({"seed": seed, "failures": kind, **rows[-1]}), flush=True)
    for kind, rows in found.items():
        means = {name: round(mean(row[name] for row in rows), 4) for name in rows[0]}
        print(json.dumps({"mean of": len(rows), "failures": kind, **means}), flush=True)


if __name__ == "__main__":
    main()
