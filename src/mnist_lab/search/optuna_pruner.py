"""Pruners by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)

from mnist_lab.errors import UnknownNameError
from mnist_lab.search.halving import Halving, rungs_of

HALVING = "halving"
PRUNERS: Mapping[str, Callable[[int], BasePruner]] = {
    HALVING: lambda _: NopPruner(),  # ours: see ``fidelity``
    "none": lambda _: NopPruner(),
    # Five whole trials to compare with, and no verdict on a first epoch.
    "median": lambda _: MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    "asha": lambda _: SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "hyperband": lambda epochs: HyperbandPruner(
        min_resource=1, max_resource=epochs, reduction_factor=3
    ),
}


def make_pruner(name: str, *, epochs: int) -> BasePruner:
    """The pruner for trials of at most ``epochs`` epochs; raises ``UnknownNameError``."""
    if name not in PRUNERS:
        raise UnknownNameError("pruner", name, PRUNERS)
    return PRUNERS[name](epochs)


def make_halving(
    pruner: str, *, trials: int, epochs: int, seed: int, whole: Iterable[int] = ()
) -> Halving:
    """The standings by which trials are paused; those of other pruners have no rungs."""
    rungs = rungs_of(epochs) if pruner == HALVING else ()
    return Halving(trials=trials, rungs=rungs, seed=seed, whole=whole)
