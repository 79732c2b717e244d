"""The figures of a trial, drawn after its end in another process: drawing takes 1.5 s."""

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

FIGURES = "figures"


def save_predictions(
    file: Path, probabilities: NDArray[np.float32], epochs: Sequence[EpochMetrics]
) -> None:
    """Save ``probabilities (N, C)`` and the history of a training for ``draw``."""
    unfinished = file.with_suffix(".unfinished")
    history = json.dumps([asdict(epoch) for epoch in epochs])
    with unfinished.open("wb") as opened:
        np.savez(opened, allow_pickle=False, probabilities=probabilities, history=np.array(history))
    unfinished.replace(file)


def draw(
    file: Path, validation: Split, artifacts: Path, class_names: Sequence[str] | None = None
) -> None:
    """Draw the figures of ``file`` into ``artifacts/figures``, and delete ``file``."""
    from mnist_lab.evaluation.figures import draw_trial, save
    from mnist_lab.evaluation.metrics import evaluate
    from mnist_lab.training import EpochMetrics

    with np.load(file, allow_pickle=False) as stored:
        probabilities = stored["probabilities"]
        epochs = [EpochMetrics(**each) for each in json.loads(str(stored["history"]))]
    evaluation = evaluate(probabilities, validation.labels, class_names)
    save(draw_trial(evaluation, epochs, probabilities, validation), artifacts / FIGURES)
    file.unlink()
