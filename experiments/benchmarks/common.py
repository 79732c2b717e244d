"""What all arms share before Keras is imported: options, data, epochs.jsonl, the MLflow store."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import spaces
from mnist_lab.data import ImageForm, load_dataset

if TYPE_CHECKING:
    import numpy as np

EXPERIMENT = "bench"
# Of --images N, N / 5 validate: 50,000 and 10,000, the split of all arms, in that ratio.
VALIDATION_RATIO = 5


def make_parser(description: str) -> argparse.ArgumentParser:
    """The options that every arm has; those of one arm are added to it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--family", choices=spaces.FAMILIES, default="fnn")
    parser.add_argument("--home", type=Path, required=True, help="all that the run writes")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fixed", action="store_true", help="the fixed points, nothing pruned")
    parser.add_argument("--images", type=int, help="only so many training images: for tests")
    return parser


def read_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line's options; ``home`` is absolute and exists, ``space`` is the family's."""
    options = parser.parse_args()
    options.home = options.home.resolve()
    options.home.mkdir(parents=True, exist_ok=True)
    options.space = spaces.find(options.family)
    return options


def fixed_points(options: argparse.Namespace) -> list[dict[str, int | float]]:
    """The points of ``--fixed``; none without it."""
    return spaces.fixed_configs(options.space, options.trials) if options.fixed else []


def load_pixels(images: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images ``(N, 28, 28) uint8`` and labels ``(N,) uint8``, then the validation's."""
    dataset = load_dataset("mnist")
    train, validation = dataset.train, dataset.validation
    take, check = images, images and images // VALIDATION_RATIO
    return (
        train.images[:take],
        train.labels[:take],
        validation.images[:check],
        validation.labels[:check],
    )


def load_one_hot(images: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As ``load_pixels``, with labels ``(N, 10) float32``, which is what the models are fed."""
    import numpy as np

    rows = np.eye(ImageForm().classes, dtype=np.float32)
    x, y, x_val, y_val = load_pixels(images)
    return x, rows[y], x_val, rows[y_val]


def note_epoch(home: Path, trial: str, epoch: int, val_accuracy: float, seconds: float) -> None:
    """Append a finished epoch (counted from 1) to epochs.jsonl, now.

    One short write to a file opened for appending: lines of processes that end together stay whole.
    """
    line = {
        "time": time.time(),
        "trial": str(trial),
        "epoch": epoch,
        "val_accuracy": round(val_accuracy, 6),
        "seconds": round(seconds, 3),
    }
    with (home / "epochs.jsonl").open("a") as opened:
        opened.write(json.dumps(line) + "\n")


def tracking_uri(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


def open_mlflow(home: Path) -> None:
    """Point MLflow's fluent functions at the store in ``home``, and create it."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(home))
    mlflow.create_experiment(EXPERIMENT, artifact_location=(home / "mlruns").as_uri())
    mlflow.set_experiment(EXPERIMENT)
