"""What a sweep tells whoever watches it: a snapshot after each thing that happens, and the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from mnist_lab.training import EpochMetrics


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a sweep stands.

    Attributes:
        epochs: of each trial, at most.
        best: number and validation accuracy of the best complete trial.
        running: the newest epoch of each running trial by number, None before its first has ended.
        seconds_left: None while there is nothing to judge by.
        news: one line for a log; empty when nothing happened but time.
    """

    study: str
    total: int
    epochs: int
    complete: int
    pruned: int
    failed: int
    best: tuple[int, float | None] | None
    running: Mapping[int, EpochMetrics | None]
    seconds_left: float | None
    news: str = ""

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


@dataclass(frozen=True)
class Lag:
    """What the tracker has not taken: how many trials and models, and why; both empty if nothing."""

    items: int = 0
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """How a sweep ended: ``stopped`` is empty when the ``total`` was reached, else why it was not.

    ``reasons`` counts the study's failed trials by reason; ``signal`` is the exit code that a signal
    asks for (130, 143), else 0. ``lag`` is what the tracker has not taken.
    """

    study: str
    total: int
    finished: int
    best: FrozenTrial | None
    reasons: dict[str, int]
    stopped: str
    signal: int
    lag: Lag
