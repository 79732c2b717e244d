"""Samplers and pruners by name."""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from zlib import crc32

import numpy as np
import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    PartialFixedSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from mnist_lab.errors import MissingExtraError, UnknownNameError, UsageError
from mnist_lab.spaces import SearchSpace
from mnist_lab.spaces.asking import AskingSpace
from mnist_lab.spaces.space import Params, ParamValue
from mnist_lab.sweep.fidelity import Halving, rungs_of

# Given the study's seed, which a sequence keeps, and that of one draw.
SamplerFactory = Callable[[int, int], BaseSampler]


def _tpe(_: int, seed: int) -> BaseSampler:
    _quicken_tpe()
    # ``group`` keeps conditional parameters in the joint model; without it they are drawn alone.
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


@cache
def _quicken_tpe() -> None:
    """Give Optuna's TPE the logarithm of the normal distribution from SciPy, in one call.

    Its own takes the numbers one by one, in Python: two thirds of its time, and 150 times as long
    (measured). The values are the same to seven digits, which a test holds.
    """
    from scipy.special import log_ndtr

    with suppress(ImportError):  # another Optuna may have it elsewhere: TPE is slower then
        from optuna.samplers._tpe import _truncnorm

        _truncnorm._log_ndtr = log_ndtr


def _cmaes(study: int, seed: int) -> BaseSampler:
    if importlib.util.find_spec("cmaes") is None:
        raise MissingExtraError("The sampler 'cmaes'", "cmaes", "cmaes")
    independent = RandomSampler(seed=seed)
    return CmaEsSampler(
        seed=study, independent_sampler=independent, warn_independent_sampling=False
    )


def _gp(_: int, seed: int) -> BaseSampler:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("The sampler 'gp'", "torch", "gp")
    return GPSampler(seed=seed, warn_independent_sampling=False)


def _qmc(study: int, seed: int) -> BaseSampler:
    independent = RandomSampler(seed=seed)
    return QMCSampler(
        seed=study,
        scramble=True,
        independent_sampler=independent,
        warn_independent_sampling=False,
    )


SAMPLERS: Mapping[str, SamplerFactory] = {
    "tpe": _tpe,
    "random": lambda _, seed: RandomSampler(seed=seed),
    "qmc": _qmc,
    "grid": lambda _, seed: RandomSampler(seed=seed),  # its points are queued: see ``grid_points``
    "cmaes": _cmaes,
    "gp": _gp,
}

_REPLICA_STREAM = 11  # beside those of trials, which have no third word, and of parameters

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


def make_sampler(
    name: str,
    *,
    seed: int,
    trial: int,
    fixed: Params,
    parameter: str = "",
) -> BaseSampler:
    """The sampler for trial number ``trial`` of a study, or for one parameter of it.

    A sampler is made anew for every trial and every parameter that is drawn by itself, seeded by the
    study's seed, the trial's number and the parameter's name: so a study that was cut off anywhere,
    between two parameters too, draws what an uninterrupted one would have drawn.

    Raises:
        UnknownNameError, MissingExtraError
    """
    if name not in SAMPLERS:
        raise UnknownNameError("sampler", name, SAMPLERS)
    drawn = draw_seed(seed, trial, parameter)
    with warnings.catch_warnings():
        # Options that Optuna calls experimental, and says so at every construction.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = SAMPLERS[name](seed, drawn)
        return PartialFixedSampler(dict(fixed), sampler) if fixed else sampler


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


def trial_seed(seed: int, trial: int) -> int:
    """A 31-bit seed for one trial: independent streams from one number (NumPy's SeedSequence)."""
    return int(np.random.SeedSequence([seed, trial]).generate_state(1)[0] >> 1)


def replica_seed(seed: int, replica: int) -> int:
    """As ``trial_seed``, for the training that repeats trials: the same for all of them, so that they
    can be compared seed by seed, and none that the search has used."""
    sequence = np.random.SeedSequence([seed, _REPLICA_STREAM, replica])
    return int(sequence.generate_state(1)[0] >> 1)


def draw_seed(seed: int, trial: int, parameter: str) -> int:
    """As ``trial_seed``, for one parameter."""
    sequence = np.random.SeedSequence([seed, trial, crc32(parameter.encode())])
    return int(sequence.generate_state(1)[0] >> 1)


def grid_points(
    space: SearchSpace, grid: Mapping[str, list[bool | int | float | str]], fixed: Params
) -> Iterator[dict[str, ParamValue]]:
    """Every point that ``grid``'s values make, all else as in the baseline or ``fixed``.

    A parameter that has no meaning in a combination is left out of it.

    Raises:
        UsageError: there is no grid.
        InvalidParamsError: a combination is not a point of ``space``.
    """
    if not grid:
        raise UsageError(
            "The sampler 'grid' needs the values to try.",
            next_step=f"Add --grid NAME=V1,V2 for some of: mnist-lab spaces {space.reference}",
        )
    met: list[Params] = []
    for combination in itertools.product(*grid.values()):
        changes = {**fixed, **dict(zip(grid, combination, strict=True))}
        for name in grid:  # of a parameter that has no meaning here there is one value
            if isinstance(space, AskingSpace) or space.is_active(
                name, {**space.defaults, **changes}
            ):
                continue
            del changes[name]
        point = space.point(changes)
        if point not in met:
            met.append(point)
            yield point
