"""Samplers by name, and the points of a grid."""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping

import optuna
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
from mnist_lab.spaces import AskingSpace, Params, ParamValue, SearchSpace
from mnist_lab.study import draw_seed, use_fast_tpe

# Given the study's seed, which a sequence keeps, and that of one draw.
SamplerFactory = Callable[[int, int], BaseSampler]


def _tpe(_: int, seed: int) -> BaseSampler:
    use_fast_tpe()
    # ``group`` keeps conditional parameters in the joint model; without it they are drawn alone.
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


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


def make_sampler(
    name: str,
    *,
    seed: int,
    trial: int,
    fixed: Params,
    parameter: str = "",
) -> BaseSampler:
    """Make the sampler for trial number ``trial`` of a study, or for one parameter of it.

    A sampler is made anew for every trial and every parameter that is drawn by itself, seeded by the
    study's seed, the trial's number and the parameter's name: so a study that was interrupted
    anywhere, between two parameters too, draws the same as an uninterrupted one.

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


def grid_points(
    space: SearchSpace, grid: Mapping[str, list[bool | int | float | str]], fixed: Params
) -> Iterator[dict[str, ParamValue]]:
    """Yield every point of ``grid``'s values, all else as in the baseline or ``fixed``.

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
