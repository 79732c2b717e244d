"""The ``Scheduler`` seam: the choice of the next trial, and whether a trial goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mnist_lab.study import TrialFacts
from mnist_lab.training import EpochMetrics


class SchedulerDecision(Enum):
    """The decision about a trial after an epoch."""

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
    """The seam that decides, from recorded epochs alone, which trials are trained and how far.

    An interrupted sweep so decides as before.
    """

    @property
    def paused(self) -> Collection[int]:
        """The trials that were paused and neither went on nor were pruned."""

    @property
    def pauses(self) -> bool:
        """Whether it ever pauses a trial: samplers are then shown unfinished trials as pruned."""

    def restore(self, trial: TrialFacts) -> None:
        """Add a trial of an earlier sweep; it may become one of ``paused``."""

    def next(self, *, new_wanted: bool) -> Choice | None:
        """Choose the trial for a free worker; None if there is none.

        ``new_wanted``: the total allows another trial.
        """

    def on_epoch(
        self, trial: int, history: Sequence[EpochMetrics], epoch: int
    ) -> SchedulerDecision:
        """Decide whether ``trial`` goes on after ``epoch``; ``history`` is written already.

        ``epoch`` is less than the length of ``history`` when epochs are trained again.
        """

    def on_pause(self, trial: int, epoch: int) -> None:
        """Note that ``trial`` has left its worker after ``epoch``, as it was decided."""

    def on_end(self, trial: int, *, failed: bool) -> None:
        """Note that ``trial`` is finished."""

    def hopeless(self) -> Collection[int]:
        """Return paused trials that will not go on: they are to be pruned."""

    def expected_epochs(self) -> int | None:
        """Estimate the number of epochs that the study will train; None if it cannot be known."""
