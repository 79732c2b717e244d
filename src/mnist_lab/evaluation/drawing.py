"""The figures of a trial, drawn later than it ended and elsewhere: drawing takes 1.5 s."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data import Split

if TYPE_CHECKING:
    from mnist_lab.training import EpochMetrics

PREDICTIONS = "predictions.npz"
FIGURES = "figures"


def save_predictions(
    folder: Path, probabilities: NDArray[np.float32], epochs: Sequence[EpochMetrics]
) -> None:
    """Leave what ``draw`` needs: ``probabilities (N, C)`` and the curves."""
    unfinished = folder / f".{PREDICTIONS}"
    with unfinished.open("wb") as file:
        history = json.dumps([asdict(epoch) for epoch in epochs])
        np.savez(file, allow_pickle=False, probabilities=probabilities, history=np.array(history))
    unfinished.replace(folder / PREDICTIONS)


def draw(folder: Path, validation: Split, artifacts: Path) -> None:
    """Draw a trial's figures into ``artifacts/figures`` if it left predictions in ``folder``."""
    file = folder / PREDICTIONS
    if not file.exists():
        return
    from mnist_lab.evaluation.figures import draw_trial, save
    from mnist_lab.evaluation.metrics import evaluate
    from mnist_lab.training import EpochMetrics

    with np.load(file, allow_pickle=False) as stored:
        probabilities = stored["probabilities"]
        epochs = [EpochMetrics(**each) for each in json.loads(str(stored["history"]))]
    evaluation = evaluate(probabilities, validation.labels)
    save(draw_trial(evaluation, epochs, probabilities, validation), artifacts / FIGURES)
    file.unlink()
