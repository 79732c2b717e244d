"""The ``Scheduler`` seam: which trial is next, and after each epoch whether it goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mnist_lab.study import TrialFacts
from mnist_lab.training import EpochMetrics


class SchedulerDecision(Enum):
    """What a trial does after an epoch."""

    CONTINUE = "continue"
    PAUSE = "pause"
    PRUNE = "prune"


@dataclass(frozen=True)
class Choice:
    """The next trial: a paused one, or a new one if ``trial`` is None.

    ``audited``: it would be pruned, and is trained to its end to see whether that is right.
    """

    trial: int | None = None
    audited: bool = False


NEW_TRIAL = Choice()


class Scheduler(Protocol):
    """Decides from the epochs of all trials, so that an interrupted sweep decides as before."""

    @property
    def paused(self) -> Collection[int]:
        """The trials that were paused and neither went on nor were pruned."""

    @property
    def pauses(self) -> bool:
        """Whether it ever pauses a trial: samplers are then shown unfinished trials as pruned."""

    def restore(self, trial: TrialFacts) -> None:
        """Take in a trial of an earlier sweep; it may become one of ``paused``."""

    def next(self, *, new_wanted: bool) -> Choice | None:
        """The trial for a free worker; None if there is none.

        ``new_wanted``: the total allows another trial.
        """

    def on_epoch(
        self, trial: int, history: Sequence[EpochMetrics], epoch: int
    ) -> SchedulerDecision:
        """Decide what ``trial`` does after ``epoch``; ``history`` is written already.

        ``epoch`` is less than the length of ``history`` when epochs are trained again.
        """

    def on_pause(self, trial: int, epoch: int) -> None:
        """``trial`` has left its worker after ``epoch``, as it was told."""

    def on_end(self, trial: int, *, failed: bool) -> None:
        """``trial`` is finished."""

    def hopeless(self) -> Collection[int]:
        """Paused trials that will not go on: they are to be pruned."""

    def expected_epochs(self) -> int | None:
        """About how many epochs the study will train in all; None if that cannot be known."""
