"""What a trial costs beside its training: ask, tell, ledger, tracking, messages; by number of trials.

    python experiments/overhead.py --trials 1000 --workers 2

The trainer is a stub: every epoch returns at once, and what it reports is a smooth function of the
learning rate. Counted is the wall time from the first trial's start to the end, and between marks along
the way: so it is seen whether a trial costs more when there are many.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from mnist_lab.config import SweepConfig
from mnist_lab.execution import TrialFinished, TrialJob
from mnist_lab.publish import connect_mlflow
from mnist_lab.settings import Settings
from mnist_lab.sweep import launch
from mnist_lab.tracking import NullTracker
from mnist_lab.training import EpochMetrics, History, Report


def stub(job: TrialJob, dataset: object, report: Report) -> TrialFinished:
    """Report ``job.epochs`` epochs that took no time."""
    distance = abs(math.log10(float(job.params["learning_rate"])) + 2.5)
    epochs: list[EpochMetrics] = []
    for epoch in range(1, job.epochs + 1):
        accuracy = max(0.1, 0.95 - 0.2 * distance) * (1 - 0.5**epoch)
        accuracy += np.random.default_rng([job.seed, epoch]).normal(0, 0.002)
        loss = 1 - accuracy
        epochs.append(
            EpochMetrics(
                epoch=epoch,
                loss=loss,
                accuracy=accuracy,
                val_loss=loss,
                val_accuracy=accuracy,
                seconds=0.0,
                timestamp=time.time(),
            )
        )
        report(tuple(epochs))
    history = History(epochs=tuple(epochs))
    scalars = {**history.scalars(), "parameters": 1.0, "val_cross_entropy": history.best.val_loss}
    return TrialFinished(trial=job.trial, best_epoch=history.best.epoch, scalars=scalars)


def measure(trials: int, options: argparse.Namespace) -> dict[str, object]:
    """Seconds of a sweep with a stub, and milliseconds a trial in each tenth of it."""
    marks: dict[int, float] = {}

    def listen(progress) -> None:
        if " started" in str(progress.news) and 0 not in marks:
            marks[0] = time.monotonic()
        marks.setdefault(progress.finished, time.monotonic())

    with tempfile.TemporaryDirectory() as home:
        config = SweepConfig(
            space="fnn",
            trials=trials,
            epochs=options.epochs,
            sampler=options.sampler,
            pruner=options.pruner,
            workers=options.workers,
            keep_models=0,
        )
        tracker = (lambda *_: NullTracker()) if options.untracked else connect_mlflow
        launch(
            config,
            Settings(home=Path(home)),
            listener=listen,
            make_tracker=tracker,
            trainer="overhead:stub",
        )
        total = time.monotonic() - marks[0]
    steps = [marks[n] for n in sorted(marks) if n % max(1, trials // 10) == 0]
    tenths = np.diff(steps) / max(1, trials // 10) * 1000
    each = np.diff([marks[n] for n in sorted(marks)]) * 1000
    return {
        "trials": trials,
        "ms_per_trial": round(total / trials * 1000, 1),
        "median_ms_between_ends": round(median(each), 1),
        "ms_per_trial_by_tenth": [round(float(value), 1) for value in tenths],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--pruner", default="halving")
    parser.add_argument("--untracked", action="store_true")
    options = parser.parse_args()
    for trials in options.trials:
        print(json.dumps(measure(trials, options)), flush=True)


if __name__ == "__main__":
    main()
