"""The ranking of configurations by their replicas, and the choice of one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState

from mnist_lab.config import OBJECTIVES, VAL_ACCURACY
from mnist_lab.study.ledger import Ledger
from mnist_lab.study.open import find_replicas
from mnist_lab.study.replicas import Design, Pair, pair_of
from mnist_lab.study.trials import TrialFacts

# The chance that a configuration is called worse than the best though it is not.
ERROR_RATE = 0.05


@dataclass(frozen=True, kw_only=True)
class ConfirmedTrial:
    """A configuration and its replicas: values of the objective by seed, in one order.

    ``val_accuracy`` is the mean of their validation accuracies, whatever the objective. ``low`` to
    ``high`` is the 95 % interval of ``mean`` over seeds, on these validation images. ``searched`` is
    the search's value, of one run. ``tied``: it cannot be told apart from the best. ``seconds`` is the
    mean wall time of a training, ``best`` the best replica.
    """

    trial: int
    accuracies: tuple[float, ...]
    val_accuracy: float
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
    """The comparison of a study's configurations by their replicas.

    ``rows`` has the configurations, all with the same ``seeds``, by mean; ``chosen`` is the trial of
    the one to prefer: of those tied with the best the one with the fewest parameters, and of equals
    the fastest. ``optimism`` is by how much the best of the search was better, in the search, than in
    the mean of its replicas (None if it is not among the rows). ``failed`` configurations have a
    replica that failed, and no row. ``difference`` is how far two means must be apart to be told apart.
    """

    study: str
    seeds: int
    rows: tuple[ConfirmedTrial, ...]
    chosen: int
    optimism: float | None
    difference: float
    failed: int = 0
    objective: str = VAL_ACCURACY

    @property
    def choice(self) -> ConfirmedTrial:
        return next(row for row in self.rows if row.trial == self.chosen)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The comparison of ``(k, n)`` accuracies.

    ``means`` are ``(k,)``, ``margin`` is half the width of their intervals, and ``difference`` how far
    two means must be apart to differ.
    """

    means: NDArray[np.float64]
    margin: float
    difference: float


def rank_replicas(accuracies: NDArray[np.float64]) -> Ranking:
    """Compare ``k`` configurations by ``(k, n)`` accuracies, one column a seed, ``n`` at least 2.

    The interval of a mean is Student's, of the spread within configurations, pooled. For differences,
    runs are paired by seed: what seeds have in common is taken out (a randomised block design, seeds
    the blocks), and means differ when they are further apart than Tukey's honestly significant
    difference, which allows for the best having been picked among ``k`` (Montgomery, Design and
    Analysis of Experiments, sections 3.5 and 4.1).
    """
    k, n = accuracies.shape
    means = accuracies.mean(axis=1)
    within = accuracies - means[:, None]
    paired = within - within.mean(axis=0)
    student, tukey = _quantiles(k, n)
    spread = np.sqrt(np.square(within).sum() / (k * (n - 1)))
    noise = np.sqrt(np.square(paired).sum() / max(1, (k - 1) * (n - 1)))
    return Ranking(
        means=means,
        margin=float(student * spread / np.sqrt(n)),
        difference=float(tukey * noise / np.sqrt(n)),
    )


@cache
def _quantiles(k: int, n: int) -> tuple[float, float]:
    """Of Student's distribution (two-sided) and of the studentized range."""
    from scipy import stats  # 1 s to import: not before there is something to compare

    student = float(stats.t.ppf(1 - ERROR_RATE / 2, k * (n - 1)))
    if k == 1:  # nothing to differ from
        return student, 0.0
    return student, float(stats.studentized_range.ppf(1 - ERROR_RATE, k, (k - 1) * (n - 1)))


def read_confirmation(study: Ledger, design: Design | None = None) -> Confirmation | None:
    """Compare the replicas of ``study``; None while too few have finished.

    Of ``design``: None while one of its replicas has not finished. Without one, of the widest
    comparison there is: of as many configurations as share at least two seeds, by all that they share.
    """
    replicas = find_replicas(study)
    if replicas is None:
        return None
    trials = replicas.trials()
    done = {pair_of(trial): trial for trial in trials if trial.state == TrialState.COMPLETE}
    failures = {pair_of(trial) for trial in trials if trial.state == TrialState.FAIL}
    wanted = design.replicas(study) if design is not None else [pair_of(trial) for trial in trials]
    failed = {of for of, _ in (failures - done.keys()) & set(wanted)}
    usable = [pair for pair in wanted if pair[0] not in failed]
    if design is None:
        usable = _widest([pair for pair in usable if pair in done])
    if not usable or any(pair not in done for pair in usable):
        return None
    seeds = list(dict.fromkeys(seed for _, seed in usable))
    whole = {of: [done[of, seed] for seed in seeds] for of in dict.fromkeys(of for of, _ in usable)}
    searched = {trial.number: trial.value or 0.0 for trial in study.ranked()}
    more_is_better = OBJECTIVES[study.record.objective]
    rows, difference = _rank(whole, searched, more_is_better=more_is_better)
    ties = [row for row in rows if row.tied]
    means = {row.trial: row.mean for row in rows}
    best = next(iter(searched))
    sign = 1 if more_is_better else -1
    return Confirmation(
        study=study.name,
        seeds=len(seeds),
        rows=rows,
        chosen=min(ties, key=lambda row: (row.parameters, row.seconds)).trial,
        optimism=sign * (searched[best] - means[best]) if best in means else None,
        difference=difference,
        failed=len(failed),
        objective=study.record.objective,
    )


def _widest(pairs: Collection[Pair]) -> list[Pair]:
    """The pairs of the most configurations that share two seeds or more, and of those the most seeds.

    Seeds are begun in one order by every configuration, so each has the first few of them.
    """
    seeds = list(dict.fromkeys(seed for _, seed in pairs))
    choices = []
    for count in range(2, len(seeds) + 1):
        shared = seeds[:count]
        whole = [of for of in {of for of, _ in pairs} if all((of, s) in pairs for s in shared)]
        choices.append((len(whole), count, [(of, s) for s in shared for of in sorted(whole)]))
    return max(choices)[2] if choices else []


def _rank(
    whole: Mapping[int, Sequence[TrialFacts]],
    searched: Mapping[int, float],
    *,
    more_is_better: bool,
) -> tuple[tuple[ConfirmedTrial, ...], float]:
    ranking = rank_replicas(np.array([[trial.score for trial in each] for each in whole.values()]))
    sign, most = (1, 1.0) if more_is_better else (-1, np.inf)
    rows = []
    for (of, trials), score in zip(whole.items(), ranking.means, strict=True):
        mean = sign * float(score)
        scalars = [trial.scalars for trial in trials]
        rows.append(
            ConfirmedTrial(
                trial=of,
                accuracies=tuple(trial.value or 0.0 for trial in trials),
                val_accuracy=float(np.mean([trial.val_accuracy for trial in trials])),
                mean=mean,
                low=max(0.0, mean - ranking.margin),
                high=float(min(most, mean + ranking.margin)),
                searched=searched.get(of, 0.0),
                parameters=int(scalars[0]["parameters"]),
                seconds=float(np.mean([each["fit_seconds"] for each in scalars])),
                tied=bool(ranking.means.max() - score <= ranking.difference),
                best=min(trials, key=lambda trial: trial.rank_key).number,
            )
        )
    return tuple(sorted(rows, key=lambda row: -sign * row.mean)), ranking.difference
