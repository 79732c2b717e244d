"""Replicas: a study's best trials trained again with fresh seeds, and what that says about them.

The best of many single runs is partly luck. Its configuration, trained again from other seeds, shows
how much: so configurations are ranked by the mean of their replicas, the first, lucky run left out.
The replicas of a study are trials of a second Optuna study beside it, with the same ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.sweep import ledger

SUFFIX = "+confirm"
# The chance that a configuration is called worse than the best though it is not.
ERROR_RATE = 0.05


@dataclass(frozen=True, kw_only=True)
class ConfirmedTrial:
    """A configuration and its replicas: validation accuracies in [0, 1] by seed, in one order.

    ``low`` to ``high`` is the 95 % interval of ``mean``; it is of seeds, on these validation images.
    ``searched`` is what the search saw, once. ``tied``: it cannot be told apart from the best.
    ``seconds`` is the mean wall time of a training, ``best`` the replica with the highest accuracy.
    """

    trial: int
    accuracies: tuple[float, ...]
    mean: float
    low: float
    high: float
    searched: float
    parameters: int
    seconds: float
    tied: bool
    best: int


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What the replicas of a study say.

    ``rows`` has the configurations whose replicas are all there, by mean; ``chosen`` is the trial of
    the one to prefer: of those tied with the best the one with the fewest parameters, and of equals
    the fastest. ``optimism`` is by how much the best of the search was better, in the search, than in
    the mean of its replicas (None if they are not all there). ``missing`` replicas are not finished,
    ``failed`` ones failed. ``difference`` is how far two means must be apart to be told apart.
    """

    study: str
    seeds: int
    rows: tuple[ConfirmedTrial, ...]
    chosen: int
    optimism: float | None
    difference: float
    missing: int = 0
    failed: int = 0

    @property
    def choice(self) -> ConfirmedTrial:
        return next(row for row in self.rows if row.trial == self.chosen)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Of ``(k, n)`` accuracies: means ``(k,)``, half the width of their intervals, and how far two
    means must be apart to differ."""

    means: NDArray[np.float64]
    margin: float
    difference: float


def rank_replicas(accuracies: NDArray[np.float64]) -> Ranking:
    """Compare ``k`` configurations by ``(k, n)`` accuracies, one column a seed, ``n`` at least 2.

    The noise is what remains when configuration and seed are taken out (a randomised block design:
    seeds are the blocks, so runs are paired by seed). Means differ when they are further apart than
    Tukey's honestly significant difference, which allows for the best having been picked among ``k``
    (Montgomery, Design and Analysis of Experiments, sections 3.5 and 4.1).
    """
    k, n = accuracies.shape
    means = accuracies.mean(axis=1)
    fitted = means[:, None] + (accuracies.mean(axis=0) - accuracies.mean() if k > 1 else 0.0)
    degrees = (k - 1) * (n - 1) if k > 1 else n - 1
    error = float(np.sqrt(np.square(accuracies - fitted).sum() / degrees / n))
    two_sided, studentized = _quantiles(k, degrees)
    return Ranking(means=means, margin=two_sided * error, difference=studentized * error)


@cache
def _quantiles(k: int, degrees: int) -> tuple[float, float]:
    from scipy import stats  # 1 s to import: not before there is something to compare

    two_sided = float(stats.t.ppf(1 - ERROR_RATE / 2, degrees))
    if k < 2:
        return two_sided, 0.0
    return two_sided, float(stats.studentized_range.ppf(1 - ERROR_RATE, k, degrees))


def confirm_name(study: str) -> str:
    """The name of the Optuna study that has the replicas of ``study``."""
    return study + SUFFIX


def searched_study(study: optuna.Study) -> optuna.Study:
    """The study that ``study`` confirms; ``study`` itself if it is a search."""
    if not study.study_name.endswith(SUFFIX):
        return study
    name = study.study_name.removesuffix(SUFFIX)
    return optuna.load_study(study_name=name, storage=study._storage)


def find_replicas(study: optuna.Study) -> optuna.Study | None:
    """The study with the replicas of ``study``, if it was ever confirmed."""
    name = confirm_name(study.study_name)
    if name not in optuna.get_all_study_names(study._storage):
        return None
    return optuna.load_study(study_name=name, storage=study._storage)


def read_confirmation(study: optuna.Study) -> Confirmation | None:
    """What the replicas of ``study`` say; None while no configuration has all of its own."""
    replicas = find_replicas(study)
    if replicas is None:
        return None
    trials = replicas.get_trials(deepcopy=False)
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    seeds = {_seed(trial) for trial in done}
    by_configuration: dict[int, list[FrozenTrial]] = defaultdict(list)
    for trial in sorted(done, key=_seed):
        by_configuration[_replica_of(trial)].append(trial)
    whole = {of: each for of, each in by_configuration.items() if len(each) == len(seeds)}
    if not whole or len(seeds) < 2:
        return None
    searched = {trial.number: trial.value or 0.0 for trial in ledger.rank(study)}
    rows, difference = _rank(whole, searched)
    ties = [row for row in rows if row.tied]
    best = min(searched, key=lambda number: (-searched[number], number))
    means = {row.trial: row.mean for row in rows}
    return Confirmation(
        study=study.study_name,
        seeds=len(seeds),
        rows=rows,
        chosen=min(ties, key=lambda row: (row.parameters, row.seconds)).trial,
        optimism=searched[best] - means[best] if best in means else None,
        difference=difference,
        missing=sum(trial.state not in ledger.FINISHED for trial in trials),
        failed=sum(trial.state == TrialState.FAIL for trial in trials),
    )


def _rank(
    whole: Mapping[int, Sequence[FrozenTrial]], searched: Mapping[int, float]
) -> tuple[tuple[ConfirmedTrial, ...], float]:
    accuracies = np.array([[trial.value or 0.0 for trial in each] for each in whole.values()])
    ranking = rank_replicas(accuracies)
    rows = []
    for (of, trials), mean in zip(whole.items(), ranking.means, strict=True):
        scalars = [ledger.read_scalars(trial) for trial in trials]
        rows.append(
            ConfirmedTrial(
                trial=of,
                accuracies=tuple(trial.value or 0.0 for trial in trials),
                mean=float(mean),
                low=float(mean) - ranking.margin,
                high=min(1.0, float(mean) + ranking.margin),
                searched=searched.get(of, 0.0),
                parameters=int(scalars[0]["parameters"]),
                seconds=float(np.mean([each["fit_seconds"] for each in scalars])),
                tied=bool(ranking.means.max() - mean <= ranking.difference),
                best=min(trials, key=ledger.merit).number,
            )
        )
    return tuple(sorted(rows, key=lambda row: -row.mean)), ranking.difference


def _replica_of(trial: FrozenTrial) -> int:
    found = ledger.read_replica_of(trial)
    assert found is not None, "only replicas are in such a study"
    return found


def _seed(trial: FrozenTrial) -> int:
    found = ledger.read_planned_seed(trial)
    assert found is not None, "replicas are queued with their seeds"
    return found
