"""What a sampler may learn of a study in which trials are paused and go on."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

# TPE's time grows with what it is shown; the newest of so many trials are as good a model.
WINDOW = 1000


class HalvingSampler(BaseSampler):
    """Shows ``sampler`` unfinished trials that were measured as if they had been pruned there.

    Optuna's samplers take a running trial for a bad one, so that workers do not all try the same: of
    a trial that is paused at a rung, or trains on because it is good, that would be wrong.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        self._view = _View(study)  # ``sample_relative`` follows at once
        return self._sampler.infer_relative_search_space(self._view, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(self._view, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._sampler.sample_independent(_View(study), trial, param_name, param_distribution)


class _View(optuna.Study):
    """``study`` as ``HalvingSampler`` shows it, for one draw; reads only, and the trials once."""

    def __init__(self, study: optuna.Study) -> None:
        self.__dict__.update(vars(study))

    @cached_property
    def _shown(self) -> list[FrozenTrial]:
        return [_measured(trial) for trial in super()._get_trials(deepcopy=False)[-WINDOW:]]

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._shown if states is None or trial.state in states]


def _measured(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.RUNNING or not trial.intermediate_values:
        return trial
    pruned = copy.copy(trial)
    pruned.state = TrialState.PRUNED
    return pruned
