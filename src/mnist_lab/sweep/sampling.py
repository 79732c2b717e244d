"""What a sampler may learn of a study, and how one trial's parameters are drawn from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.spaces.space import ParamValue, contains
from mnist_lab.sweep import ledger
from mnist_lab.sweep.seen import SeenPoints

# TPE's time grows with what it is shown; the newest of so many trials are as good a model.
WINDOW = 1000


class StudyView:
    """``study`` without the trials that mnist-lab did not write; reads only, and the trials once.

    With ``halving``, unfinished trials that were measured are shown as if they had been pruned there.
    Optuna's samplers take a running trial for a bad one, so that workers do not all try the same: of
    a trial that is paused at a rung, or trains on because it is good, that would be wrong. All else is
    the study's own, which may be a bracket of Hyperband.
    """

    def __init__(self, study: optuna.Study, *, halving: bool = False) -> None:
        self._study = study
        self._halving = halving

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @cached_property
    def _shown(self) -> list[FrozenTrial]:
        trials = self._study._get_trials(deepcopy=False)
        if not self._halving:
            return [each for each in trials if ledger.is_own(each)]
        return [_measured(each) for each in trials[-WINDOW:] if ledger.is_own(each)]

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._shown if states is None or trial.state in states]

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)


def view(study: optuna.Study, *, halving: bool = False) -> optuna.Study:
    """A ``StudyView`` of ``study``, which Optuna takes for the study itself."""
    return cast(optuna.Study, StudyView(study, halving=halving))


class TrialSampler(BaseSampler):
    """Draws the parameters of one trial, each when it is asked for.

    ``make`` gives the sampler of the whole trial (for no parameter's name) or of one parameter. What
    the former draws for several parameters together is kept until they are asked for. No point is
    drawn that ``seen`` has, as long as there are others.
    """

    def __init__(
        self, make: Callable[[str], BaseSampler], seen: SeenPoints, seed: int, *, halving: bool
    ) -> None:
        self._make = make
        self._seen = seen
        self._random = np.random.default_rng(seed)
        self._halving = halving
        self._whole = make("")
        self._joint: tuple[dict[str, BaseDistribution], dict[str, Any]] | None = None
        # What the next parameter is to have instead of being drawn, if anything.
        self.given: tuple[ParamValue] | None = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._whole.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._whole.after_trial(study, trial, state, values)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        if self.given is not None:
            return self.given[0]
        shown = view(study, halving=self._halving)
        value = self._draw(shown, trial, param_name, param_distribution)
        before = trial.params.values()
        return self._seen.unseen(before, param_distribution, value, self._random)

    def _draw(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        if self._joint is None:
            space = self._whole.infer_relative_search_space(study, trial)
            self._joint = space, self._whole.sample_relative(study, trial, space)
        space, values = self._joint
        if name in values and _fits(space[name], distribution, values[name]):
            return values[name]
        return self._make(name).sample_independent(study, trial, name, distribution)


def _fits(drawn_from: BaseDistribution, distribution: BaseDistribution, value: ParamValue) -> bool:
    """Whether what was drawn from a range as it was earlier is a value of it as it is now."""
    try:
        check_distribution_compatibility(drawn_from, distribution)
    except ValueError:
        return False
    return contains(distribution, value)


def _measured(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.RUNNING or not trial.intermediate_values:
        return trial
    pruned = copy.copy(trial)
    pruned.state = TrialState.PRUNED
    return pruned
