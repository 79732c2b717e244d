"""Successive halving whose paused trials come back: epochs are spent where they matter.

Every trial trains to the first rung (an epoch). Of those that got there, the best third goes on to the
next, and so on; the others are paused, with their checkpoints, and a paused trial goes on as soon as it
is among the best third of its rung (ASHA's promotion, Li et al. 2020, arXiv 1810.05934). A trial that
can not be among them any more, because enough better ones are there already, is pruned. A small share
of the pruned is trained to the end all the same: so the price of pruning is known.

The space's baseline and its starts, which are known to be good, are trained to their end at once: all
others are compared with them, and there is a whole model early. Screened, the start of ``fnn-v2`` was
pruned after one epoch, in which its learning rate has hardly begun to rise; it ends at 98.9 %.

All of this follows from the histories in the ledger, so a sweep that was cut off decides as before.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from enum import Enum

import numpy as np

from mnist_lab.training import EpochMetrics

# One of so many goes on from each rung: 3 is ASHA's and Hyperband's own choice; 2 and 4, and other
# strategies, lost or tied in the comparison of experiments/LOG.md.
REDUCTION = 3
# Of the trials to be pruned, those that are finished to see whether pruning was right.
AUDITED_SHARE = 0.05
# Which trials are audited has its own random stream, beside those of sampling and training.
_AUDIT_STREAM = 7


class SchedulerDecision(Enum):
    """What becomes of a trial at the end of an epoch."""

    GO_ON = "go on"
    PAUSE = "pause"
    PRUNE = "prune"


def rungs_of(epochs: int, reduction: int = REDUCTION) -> tuple[int, ...]:
    """The epochs after which trials are compared: ``epochs`` / 3, / 9, ... down to 1."""
    rungs: list[int] = []
    rung = epochs
    while rung > 1:
        rung = max(1, round(rung / reduction))
        rungs.insert(0, rung)
    return tuple(rungs)


class Halving:
    """The standings of a study of ``trials`` trials at each of ``rungs``, and who is paused there.

    ``seed`` decides which trials are audited; those of ``whole`` are neither paused nor pruned.
    Without rungs every trial goes on to its end.
    """

    def __init__(
        self,
        *,
        trials: int,
        rungs: Sequence[int],
        seed: int,
        reduction: int = REDUCTION,
        whole: Iterable[int] = (),
    ) -> None:
        self.rungs = tuple(rungs)
        self.paused: dict[int, int] = {}
        self._trials = trials
        self._reduction = reduction
        self._seed = seed
        self._whole = set(whole)
        self._promoted: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[float, int]] = {}
        self._ranked: dict[int, list[tuple[float, int]]] = {rung: [] for rung in self.rungs}
        self._slots_per_rung: dict[int, int] = {}
        places = trials
        for rung in self.rungs:
            places = max(1, places // reduction)
            self._slots_per_rung[rung] = places

    def record(self, trial: int, history: Sequence[EpochMetrics]) -> None:
        """Note how ``trial`` stood at every rung that it has reached."""
        for rung in self.rungs:
            if rung <= len(history) and (rung, trial) not in self._entries:
                best = max(epoch.val_accuracy for epoch in history[:rung])
                self._entries[rung, trial] = (-best, trial)
                bisect.insort(self._ranked[rung], (-best, trial))

    def forget(self, trial: int) -> None:
        """Take a trial that failed out of the standings."""
        for rung, ranked in self._ranked.items():
            if (entry := self._entries.pop((rung, trial), None)) is not None:
                ranked.remove(entry)

    def judge(self, trial: int, epoch: int) -> SchedulerDecision:
        """What ``trial``, recorded up to ``epoch``, is to do now."""
        promoted = self._promoted.get(trial, 0) >= epoch  # it says again how far it had come
        if epoch not in self._ranked or self.is_exempt(trial) or promoted:
            return SchedulerDecision.GO_ON
        ranked = self._ranked[epoch]
        place = bisect.bisect_left(ranked, self._entries[epoch, trial])
        if place < len(ranked) // self._reduction:
            return SchedulerDecision.GO_ON
        hopeless = place >= self._slots_per_rung[epoch] and not self.is_audited(trial)
        return SchedulerDecision.PRUNE if hopeless else SchedulerDecision.PAUSE

    def expected_epochs(self, epochs: int) -> int:
        """What a study whose trials train ``epochs`` at most will train in all, about."""
        reached = [0, *self.rungs, epochs]
        trials = [self._trials, *self._slots_per_rung.values()]
        stretches = zip(trials, itertools.pairwise(reached), strict=True)
        beyond = len(self._whole) * (epochs - self.rungs[0]) if self.rungs else 0
        return beyond + sum(count * (end - start) for count, (start, end) in stretches)

    def pause(self, trial: int, epoch: int) -> None:
        self.paused[trial] = epoch

    def hopeless(self) -> list[int]:
        """Paused trials that better ones have left no place at their rung; audited ones stay."""
        return [
            trial
            for rung, ranked in self._ranked.items()
            # Each result pushes one trial out of the places at most: it is the first outside.
            for _, trial in ranked[self._slots_per_rung[rung] : self._slots_per_rung[rung] + 1]
            if self.paused.get(trial) == rung and not self.is_audited(trial)
        ]

    def promote(self, *, all_asked: bool) -> int | None:
        """The paused trial that deserves to go on: of the highest rung, the best; None for none.

        ``all_asked`` says that no further trial will begin: then one of each rung goes on at least.
        """
        for rung in reversed(self.rungs):
            ranked = self._ranked[rung]
            places = max(len(ranked) // self._reduction, int(all_asked))
            for _, trial in ranked[:places]:
                if self.paused.get(trial) == rung:
                    del self.paused[trial]
                    self._promoted[trial] = rung
                    return trial
        return None

    def audit(self) -> int | None:
        """A paused trial that goes on to its end though it would be pruned; None for none left."""
        trial = next((each for each in self.paused if self.is_audited(each)), None)
        if trial is not None:
            self.exempt(trial)
        return trial

    def exempt(self, trial: int) -> None:
        """From now on ``trial`` is neither paused nor pruned."""
        self.paused.pop(trial, None)
        self._whole.add(trial)

    def is_exempt(self, trial: int) -> bool:
        return trial in self._whole

    def is_audited(self, trial: int) -> bool:
        """Whether ``trial`` is one of those that are finished if they would be pruned."""
        draw = np.random.default_rng([self._seed, _AUDIT_STREAM, trial]).random()
        return bool(draw < AUDITED_SHARE)
