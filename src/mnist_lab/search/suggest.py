"""Drawing one parameter from an Optuna trial by its distribution."""

from __future__ import annotations

import warnings

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from mnist_lab.spaces import ParamValue


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> ParamValue:
    """Ask ``trial`` for a value; a trial that has one already answers with that."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(
        name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )


def as_stored(distribution: BaseDistribution) -> BaseDistribution:
    """Return ``distribution`` as a storage gives it back: choices that are tuples are lists then."""
    if not isinstance(distribution, CategoricalDistribution):
        return distribution
    with warnings.catch_warnings():  # Optuna warns of lists among choices, and takes them
        warnings.simplefilter("ignore", UserWarning)
        return json_to_distribution(distribution_to_json(distribution))
