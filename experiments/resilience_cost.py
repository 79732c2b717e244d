"""What it costs that nothing can be lost: the same sweep with and without all that guards it.

    python experiments/resilience_cost.py --rounds 4

Both arms train the CNN's baseline on the whole MNIST, interleaved. "off" has no checkpoints, a study in
memory and no tracking; "on" has what a user has. Counted is from the first trial's start to the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from mnist_lab.config import SweepConfig
from mnist_lab.publish import connect_mlflow
from mnist_lab.settings import Settings
from mnist_lab.spaces import get_space
from mnist_lab.sweep import launch
from mnist_lab.tracking import NullTracker


def run(arm: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of a sweep from its first trial's start to its end, and seconds inside epochs."""
    guarded = arm == "on"
    marks: list[float] = []
    epochs: list[float] = []

    def listen(progress) -> None:
        said = str(progress.news or "")
        if "started" in said:
            marks.append(time.monotonic())
        if said.endswith(" s)"):
            epochs.append(float(said.rsplit("(", 1)[1].split(maxsplit=1)[0]))

    with tempfile.TemporaryDirectory() as home:
        storage = None if guarded else "sqlite://"
        config = SweepConfig(
            space=options.space,
            trials=options.trials,
            epochs=options.epochs,
            pruner="none",
            sampler="random",
            set=dict(get_space(options.space).baseline),
            checkpoints=guarded,
        )
        launch(
            config,
            Settings(home=Path(home), storage_override=storage),
            listener=listen,
            make_tracker=connect_mlflow if guarded else lambda *_: NullTracker(),
        )
    return {"sweep": time.monotonic() - marks[0], "epochs": sum(epochs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="cnn")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"off": [], "on": []}
    for number in range(options.rounds):
        arms = ["off", "on"] if number % 2 else ["on", "off"]
        for arm in arms:
            told = run(arm, options)
            seconds[arm].append(told["sweep"])
            print(f"round {number} {arm}: {told}", flush=True)
    ratios = [on / off for on, off in zip(seconds["on"], seconds["off"], strict=True)]
    print(
        json.dumps(
            {
                "space": options.space,
                "median_s": {arm: round(median(each), 1) for arm, each in seconds.items()},
                "ratios": [round(ratio, 3) for ratio in ratios],
                "median_ratio": round(median(ratios), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
