"""``TrialSampler``: a sampler that draws each parameter of one trial when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.search.seen import SeenPoints
from mnist_lab.spaces import ParamValue, contains
from mnist_lab.study import view


class TrialSampler(BaseSampler):
    """The sampler of one trial, which draws each parameter when it is asked for.

    ``make`` gives the sampler of the whole trial (for no parameter's name) or of one parameter. What
    the former draws for several parameters together is kept until they are asked for. No point is
    drawn that ``seen`` has, as long as there are others. ``limits`` are those of the search, by name.
    """

    def __init__(
        self,
        make: Callable[[str], BaseSampler],
        seen: SeenPoints,
        seed: int,
        *,
        halving: bool,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self._make = make
        self._seen = seen
        self._random = np.random.default_rng(seed)
        self._halving = halving
        self._limits = limits or {}
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
        shown = view(study, halving=self._halving, limits=self._limits)
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
    """Return whether a value drawn from an earlier range is a value of the present one."""
    try:
        check_distribution_compatibility(drawn_from, distribution)
    except ValueError:
        return False
    return contains(distribution, value)
