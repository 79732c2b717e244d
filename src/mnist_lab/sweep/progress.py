"""What a sweep tells whoever watches it: one frozen snapshot after each thing that happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
