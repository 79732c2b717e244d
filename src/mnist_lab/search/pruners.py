"""Optuna's own pruners behind the ``Scheduler`` seam, and schedulers by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)

from mnist_lab.errors import UnknownNameError
from mnist_lab.search.halving import Halving
from mnist_lab.search.scheduler import NEW_TRIAL, Choice, Scheduler, SchedulerDecision
from mnist_lab.study import Ledger, TrialFacts
from mnist_lab.training import EpochMetrics

HALVING, NONE = "halving", "none"
PRUNERS: Mapping[str, Callable[[int], BasePruner]] = {
    HALVING: lambda _: NopPruner(),  # mnist-lab's own: see ``halving.py``
    NONE: lambda _: NopPruner(),
    # Five whole trials to compare with, and no decision on a first epoch.
    "median": lambda _: MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    "asha": lambda _: SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "hyperband": lambda epochs: HyperbandPruner(
        min_resource=1, max_resource=epochs, reduction_factor=3
    ),
}


class OptunaPruner:
    """The scheduler that asks the pruner of ``study`` after each epoch, and pauses no trial."""

    paused: Collection[int] = ()
    pauses = False

    def __init__(self, study: Ledger, *, epochs: int) -> None:
        self._study = study
        self._epochs = epochs
        self._pruned_at: dict[int, int] = {}

    def restore(self, trial: TrialFacts) -> None:
        if trial.pruned_at is not None:
            self._pruned_at[trial.number] = trial.pruned_at

    def next(self, *, new_wanted: bool) -> Choice | None:
        return NEW_TRIAL if new_wanted else None

    def on_epoch(
        self, trial: int, history: Sequence[EpochMetrics], epoch: int
    ) -> SchedulerDecision:
        """Ask the pruner once an epoch; its decision before an interruption stands."""
        if epoch >= self._epochs:
            return SchedulerDecision.CONTINUE
        is_new = epoch == len(history)  # else the epoch is trained again
        if trial not in self._pruned_at and is_new and self._study.should_prune(trial):
            self._pruned_at[trial] = epoch
            self._study.write(trial).pruned_at(epoch)
        pruned = trial in self._pruned_at and epoch >= self._pruned_at[trial]
        return SchedulerDecision.PRUNE if pruned else SchedulerDecision.CONTINUE

    def on_pause(self, trial: int, epoch: int) -> None:
        raise AssertionError("no trial is paused")

    def on_end(self, trial: int, *, failed: bool) -> None:
        return None

    def hopeless(self) -> Collection[int]:
        return ()

    def expected_epochs(self) -> int | None:
        return None


def make_pruner(name: str, *, epochs: int) -> BasePruner:
    """Make Optuna's pruner for trials of at most ``epochs`` epochs; raises ``UnknownNameError``."""
    if name not in PRUNERS:
        raise UnknownNameError("pruner", name, PRUNERS)
    return PRUNERS[name](epochs)


def make_scheduler(
    pruner: str, study: Ledger, *, trials: int, epochs: int, seed: int, exempt: Iterable[int] = ()
) -> Scheduler:
    """Make the scheduler of this name. ``none`` is halving without rungs."""
    if pruner in (HALVING, NONE):
        rungs = None if pruner == HALVING else ()
        return Halving(trials=trials, epochs=epochs, seed=seed, rungs=rungs, exempt=exempt)
    return OptunaPruner(study, epochs=epochs)
