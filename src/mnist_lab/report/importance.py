"""How much each parameter matters, how sure that is, and in which direction it points."""

from __future__ import annotations

import copy
import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.report.summary import MIN_TRIALS_FOR_IMPORTANCE, importances
from mnist_lab.study import Ledger

MOST_RESAMPLES, LEAST_RESAMPLES = 40, 8
RESAMPLED_TRIALS = 2000  # in all: some 2 ms each
LEAST_CORRELATION = 0.2


@dataclass(frozen=True, kw_only=True)
class Importance:
    """A parameter's share of what makes trials good (PED-ANOVA, Watanabe et al. 2023).

    ``low`` to ``high`` are the 2.5 % and 97.5 % quantiles of ``share`` over resampled trials.
    ``correlation`` is Spearman's, of its values with the objective where more is better; None for
    categories and for parameters that few trials have. ``trials`` have the parameter.
    """

    name: str
    share: float
    low: float
    high: float
    correlation: float | None
    trials: int

    @property
    def direction(self) -> str:
        """``more``, ``less`` or nothing: which values the better trials have."""
        if self.correlation is None or abs(self.correlation) < LEAST_CORRELATION:
            return ""
        return "more" if self.correlation > 0 else "less"


def measure_importances(study: Ledger) -> tuple[Importance, ...]:
    """Measure every parameter's importance, the largest first; empty for too few trials."""
    shares = importances(study)
    if not shares:
        return ()
    ranked = study.ranked()
    done = {trial.number for trial in ranked}
    frozen = [
        _bare(trial)
        for trial in study.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial.number in done
    ]
    resampled = _resample(frozen, study.study.direction)
    found = []
    for name, share in shares.items():
        draws = sorted(each.get(name, 0.0) for each in resampled)
        pairs = [(t.params[name], t.score) for t in ranked if name in t.params]
        low, high = (draws[round(q * (len(draws) - 1))] for q in (0.025, 0.975))
        found.append(
            Importance(
                name=name,
                share=share,
                low=min(low, share),
                high=max(high, share),
                correlation=_correlation(pairs),
                trials=len(pairs),
            )
        )
    return tuple(found)


def _bare(trial: FrozenTrial) -> FrozenTrial:
    """Return the trial without its attributes and epochs, which Optuna would copy each time."""
    bare = copy.copy(trial)
    bare.user_attrs, bare.system_attrs, bare.intermediate_values = {}, {}, {}
    return bare


def _resample(trials: list[FrozenTrial], direction: StudyDirection) -> list[dict[str, float]]:
    """Compute the importances of as many trials, drawn again and again with replacement."""
    drawing = random.Random(0)  # noqa: S311 - the same report for the same study
    count = min(MOST_RESAMPLES, max(LEAST_RESAMPLES, RESAMPLED_TRIALS // len(trials)))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", UserWarning)  # of parameters that few trials have
            return [_once(drawing.choices(trials, k=len(trials)), direction) for _ in range(count)]
    finally:
        optuna.logging.set_verbosity(verbosity)


def _once(trials: list[FrozenTrial], direction: StudyDirection) -> dict[str, float]:
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    try:
        return dict(optuna.importance.get_param_importances(study))
    except (RuntimeError, ValueError):  # a draw in which all values are equal
        return {}


def _correlation(pairs: Sequence[tuple[object, float]]) -> float | None:
    numbers = [
        (float(value), score)
        for value, score in pairs
        if isinstance(value, Real) and not isinstance(value, bool)
    ]
    values = {value for value, _ in numbers}
    if len(numbers) < MIN_TRIALS_FOR_IMPORTANCE or len(values) < 3:
        return None
    from scipy.stats import spearmanr  # takes half a second to import

    found = float(spearmanr(*zip(*numbers, strict=True)).statistic)
    return None if math.isnan(found) else found  # where all scores are equal
