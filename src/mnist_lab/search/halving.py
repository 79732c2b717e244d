"""Successive halving whose paused trials come back: epochs are spent where they matter.

Every trial trains to the first rung (an epoch). Of those that got there, the best third goes on to the
next, and so on; the others are paused, with their checkpoints, and a paused trial goes on as soon as it
is among the best third of its rung (ASHA's promotion, Li et al. 2020, arXiv 1810.05934). A trial that
can not be among them any more, because enough better ones are there already, is pruned. A small share
of the pruned is trained to the end all the same: so the price of pruning is known.

The space's baseline and its initial points, which are known to be good, are exempt: they train to their
end at once. All others are compared with them, and there is a whole model early. Not exempt, the start
of ``fnn-v2`` was pruned after one epoch, in which its learning rate has hardly begun to rise; it ends
at 98.9 %.

All of this follows from the histories in the ledger, so an interrupted sweep decides as before.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from optuna.trial import TrialState

from mnist_lab.search.scheduler import NEW_TRIAL, Choice, SchedulerDecision
from mnist_lab.study import TrialFacts
from mnist_lab.training import EpochMetrics

# One of so many goes on from each rung: 3 is ASHA's and Hyperband's own choice; 2 and 4, and other
# strategies, lost or tied in the comparison of experiments/LOG.md.
REDUCTION = 3
# Of the trials to be pruned, those that are finished to see whether pruning was right.
AUDITED_SHARE = 0.05
# Which trials are audited has its own random stream, beside those of sampling and training.
_AUDIT_STREAM = 7


def rungs_of(epochs: int, reduction: int = REDUCTION) -> tuple[int, ...]:
    """Return the epochs after which trials are compared: ``epochs`` / 3, / 9, ... down to 1."""
    rungs: list[int] = []
    rung = epochs
    while rung > 1:
        rung = max(1, round(rung / reduction))
        rungs.insert(0, rung)
    return tuple(rungs)


class Halving:
    """The rankings of a study of ``trials`` trials at each rung, and the trials paused there.

    ``seed`` decides which trials are audited; trials of ``exempt`` are neither paused nor pruned.
    Without rungs every trial trains to its end.
    """

    def __init__(
        self,
        *,
        trials: int,
        epochs: int,
        seed: int,
        rungs: Sequence[int] | None = None,
        reduction: int = REDUCTION,
        exempt: Iterable[int] = (),
    ) -> None:
        self.rungs = tuple(rungs_of(epochs, reduction) if rungs is None else rungs)
        self.paused: dict[int, int] = {}
        self._trials = trials
        self._epochs = epochs
        self._reduction = reduction
        self._seed = seed
        self._exempt = set(exempt)
        self._promoted: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[float, int]] = {}
        self._ranked: dict[int, list[tuple[float, int]]] = {rung: [] for rung in self.rungs}
        self._slots: dict[int, int] = {}
        slots = trials
        for rung in self.rungs:
            slots = max(1, slots // reduction)
            self._slots[rung] = slots

    @property
    def pauses(self) -> bool:
        return bool(self.rungs)

    def restore(self, trial: TrialFacts) -> None:
        """Add a trial of an earlier sweep; one that was left at a rung is paused there."""
        if trial.state != TrialState.FAIL:
            self._record(trial.number, trial.history)
        if trial.audited_at is not None:
            self._exempt.add(trial.number)
        reached = len(trial.history)
        is_left = trial.state == TrialState.RUNNING and not trial.is_foreign_run
        if is_left and reached in self.rungs and trial.number not in self._exempt:
            self.paused[trial.number] = reached

    def next(self, *, new_wanted: bool) -> Choice | None:
        """Return a promoted trial, else a new one, else one to audit."""
        promoted = self._promote(all_asked=not new_wanted)
        if promoted is not None:
            return Choice(promoted)
        if new_wanted:
            return NEW_TRIAL
        audited = next((each for each in self.paused if self._is_audited(each)), None)
        if audited is None:
            return None
        del self.paused[audited]
        self._exempt.add(audited)
        return Choice(audited, audited=True)

    def on_epoch(
        self, trial: int, history: Sequence[EpochMetrics], epoch: int
    ) -> SchedulerDecision:
        """Pause a trial at a rung unless among the best third; prune it if it can have no slot."""
        self._record(trial, history)
        promoted = self._promoted.get(trial, 0) >= epoch  # a resumed trial repeats it
        if epoch not in self._ranked or trial in self._exempt or promoted:
            return SchedulerDecision.CONTINUE
        ranked = self._ranked[epoch]
        place = bisect.bisect_left(ranked, self._entries[epoch, trial])
        if place < len(ranked) // self._reduction:
            return SchedulerDecision.CONTINUE
        if place >= self._slots[epoch] and not self._is_audited(trial):
            return SchedulerDecision.PRUNE
        return SchedulerDecision.PAUSE

    def on_pause(self, trial: int, epoch: int) -> None:
        self.paused[trial] = epoch

    def on_end(self, trial: int, *, failed: bool) -> None:
        """Take a trial that failed out of the rankings."""
        self.paused.pop(trial, None)
        if not failed:
            return
        for rung, ranked in self._ranked.items():
            if (entry := self._entries.pop((rung, trial), None)) is not None:
                ranked.remove(entry)

    def hopeless(self) -> list[int]:
        """List paused trials that better ones have left no slot at their rung; audited ones stay."""
        return [
            trial
            for rung, ranked in self._ranked.items()
            # Each result pushes one trial out of the slots at most: it is the first outside.
            for _, trial in ranked[self._slots[rung] : self._slots[rung] + 1]
            if self.paused.get(trial) == rung and not self._is_audited(trial)
        ]

    def expected_epochs(self) -> int:
        """Sum the epochs between rungs over the trials that have a slot there."""
        reached = [0, *self.rungs, self._epochs]
        trials = [self._trials, *self._slots.values()]
        stretches = zip(trials, itertools.pairwise(reached), strict=True)
        beyond = len(self._exempt) * (self._epochs - self.rungs[0]) if self.rungs else 0
        return beyond + sum(count * (end - start) for count, (start, end) in stretches)

    def _record(self, trial: int, history: Sequence[EpochMetrics]) -> None:
        """Rank ``trial`` at every rung that it has reached."""
        for rung in self.rungs:
            if rung <= len(history) and (rung, trial) not in self._entries:
                best = max(epoch.score for epoch in history[:rung])
                self._entries[rung, trial] = (-best, trial)
                bisect.insort(self._ranked[rung], (-best, trial))

    def _promote(self, *, all_asked: bool) -> int | None:
        """The paused trial that may go on: of the highest rung, the best; None for none.

        ``all_asked``: no further trial will begin, so at least one of each rung goes on.
        """
        for rung in reversed(self.rungs):
            ranked = self._ranked[rung]
            slots = max(len(ranked) // self._reduction, int(all_asked))
            for _, trial in ranked[:slots]:
                if self.paused.get(trial) == rung:
                    del self.paused[trial]
                    self._promoted[trial] = rung
                    return trial
        return None

    def _is_audited(self, trial: int) -> bool:
        """Whether ``trial`` is one of those that are finished if they would be pruned."""
        draw = np.random.default_rng([self._seed, _AUDIT_STREAM, trial]).random()
        return bool(draw < AUDITED_SHARE)
