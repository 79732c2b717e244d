"""The ranking of configurations by their replicas, and the choice of one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState

from mnist_lab.config import OBJECTIVES, VAL_ACCURACY
from mnist_lab.data import VALIDATION_PART
from mnist_lab.study.ledger import Ledger
from mnist_lab.study.open import find_replicas
from mnist_lab.study.replicas import Design, first_replicas, read_replicas, second_replicas
from mnist_lab.study.trials import FINISHED, TrialFacts

Pair = tuple[int, int]  # a trial of the search, and a seed
# The chance that a configuration is called worse than the best though it is not.
ERROR_RATE = 0.05


@dataclass(frozen=True, kw_only=True)
class ConfirmedTrial:
    """A configuration and its replicas: values of the objective, by the part that was left out.

    ``val_accuracy`` is the mean of their accuracies, whatever the objective; ``mean`` that of the
    objective, with the 95 % interval from ``low`` to ``high``: of accuracies by the number of images,
    of other objectives by the spread of replicas. ``searched`` is the search's value, of one run on
    the validation part; ``total`` the sum of all, by which the choice is made. ``tied``: the mean
    cannot be told apart from the best. ``seconds`` is the mean wall time of a training. ``said`` is
    ``chosen``, ``tied``, ``dropped`` for a trial that was not trained a second time, or empty.
    """

    trial: int
    accuracies: tuple[float, ...]
    val_accuracy: float
    mean: float
    total: float
    low: float
    high: float
    searched: float
    parameters: int
    seconds: float
    tied: bool
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """The comparison of a study's configurations by their replicas.

    ``rows`` has the configurations, those with the most replicas (``seeds`` of them) first, and of
    these the ``chosen`` one, which has the best total. ``optimism`` is by how much the best of the
    search was better, in the search, than in the mean of its replicas on the same images; None where
    they were measured on other images, or it is not among the rows. ``failed`` configurations have a
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
    """The comparison of ``(k, n)`` accuracies, ``n`` of them ``replicas``.

    ``means`` are ``(k,)``, ``margin`` is half the width of their intervals, and ``difference`` how far
    two means must be apart to differ.
    """

    means: NDArray[np.float64]
    margin: float
    difference: float
    replicas: int


def rank_replicas(accuracies: NDArray[np.float64]) -> Ranking:
    """Compare ``k`` configurations by ``(k, n)`` accuracies, one column a seed or a part left out.

    With one replica each nothing is known of noise: all differences are possible.

    The interval of a mean is Student's, of the spread within configurations, pooled. For differences,
    runs are paired by seed: what seeds have in common is taken out (a randomised block design, seeds
    the blocks), and means differ when they are further apart than Tukey's honestly significant
    difference, which allows for the best having been picked among ``k`` (Montgomery, Design and
    Analysis of Experiments, sections 3.5 and 4.1).
    """
    k, n = accuracies.shape
    means = accuracies.mean(axis=1)
    if n == 1:
        return Ranking(means=means, margin=np.inf, difference=np.inf, replicas=n)
    within = accuracies - means[:, None]
    paired = within - within.mean(axis=0)
    student, tukey = _quantiles(k, n)
    spread = np.sqrt(np.square(within).sum() / (k * (n - 1)))
    noise = np.sqrt(np.square(paired).sum() / max(1, (k - 1) * (n - 1)))
    return Ranking(
        means=means,
        margin=float(student * spread / np.sqrt(n)),
        difference=float(tukey * noise / np.sqrt(n)),
        replicas=n,
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

    Of ``design``: None while one of its replicas has not finished. Without one, of the trials that have
    a replica. A study that an earlier version confirmed, by several seeds on the validation images,
    keeps that comparison until it is confirmed again.
    """
    found = read_replicas(study)
    if not first_replicas(found):  # those of ``promote`` compare nothing here
        return _read_former(study)
    first = design.first(study) if design else first_replicas(found)
    wanted = [*first, *second_replicas(study, first, found)]
    if any(each not in found for each in wanted):
        return None
    failed = {each.of for each in wanted if found[each].state == TrialState.FAIL}
    trained: dict[int, list[TrialFacts]] = {}
    for replica in wanted:
        if replica.of not in failed:
            trained.setdefault(replica.of, []).append(found[replica])
    return _compare(study, trained, failed)


def _read_former(study: Ledger) -> Confirmation | None:
    """Compare replicas that left no part out: of as many trials as share at least two seeds."""
    replicas = find_replicas(study)
    if replicas is None:
        return None
    done: dict[Pair, TrialFacts] = {}
    failed = set()
    for trial in replicas.trials(FINISHED):
        if trial.replica_of is None or trial.left_out is not None or trial.planned_seed is None:
            continue
        if trial.state == TrialState.COMPLETE:
            done[trial.replica_of, trial.planned_seed] = trial
        elif trial.state == TrialState.FAIL:
            failed.add((trial.replica_of, trial.planned_seed))
    lost = {of for of, _ in failed - done.keys()}
    trained: dict[int, list[TrialFacts]] = {}
    for pair in _widest([pair for pair in done if pair[0] not in lost]):
        trained.setdefault(pair[0], []).append(done[pair])
    return _compare(study, trained, lost)


def _compare(
    study: Ledger, trained: Mapping[int, Sequence[TrialFacts]], failed: Collection[int]
) -> Confirmation | None:
    """Rank trials by their ``trained`` replicas; the best of those with the most is chosen."""
    if not trained:
        return None
    seeds = max(len(each) for each in trained.values())
    whole = {of: each for of, each in trained.items() if len(each) == seeds}
    searched = {trial.number: trial for trial in study.ranked()}
    ranking = rank_replicas(np.array([[trial.score for trial in each] for each in whole.values()]))
    if _counts_images(study, trained):
        error = _margin_by_images(study, float(ranking.means.max()), seeds)
        ranking = replace(ranking, difference=error)
    tied = {
        of
        for of, mean in zip(whole, ranking.means, strict=True)
        if ranking.means.max() - mean <= ranking.difference
    }
    rows = [
        _row(study, of, each, searched.get(of), ranking, is_tied=of in tied)
        for of, each in trained.items()
    ]
    more_is_better = OBJECTIVES[study.record.objective]
    sign = 1 if more_is_better else -1
    rows.sort(key=lambda row: (row.trial not in whole, -sign * row.total))
    rows = [replace(row, said=_say(row, is_first=row is rows[0], whole=whole)) for row in rows]
    means = {row.trial: row.mean for row in rows}
    best = next(iter(searched))
    comparable = best in means and trained[best][0].left_out is None
    return Confirmation(
        study=study.name,
        seeds=seeds,
        rows=tuple(rows),
        chosen=rows[0].trial,
        optimism=sign * ((searched[best].value or 0.0) - means[best]) if comparable else None,
        difference=ranking.difference,
        failed=len(failed),
        objective=study.record.objective,
    )


def _counts_images(study: Ledger, trained: Mapping[int, Sequence[TrialFacts]]) -> bool:
    """Whether replicas are shares of right images, each on images that were left out."""
    leaves_out = all(trial.left_out is not None for each in trained.values() for trial in each)
    return leaves_out and study.record.objective == VAL_ACCURACY


def _margin_by_images(study: Ledger, accuracy: float, parts: int) -> float:
    """1.96 standard errors of an accuracy, by the number of images in so many parts.

    It serves for differences, too: two models miss mostly the same images.
    """
    images = max(1, parts * study.record.splits["train"].images // VALIDATION_PART)
    bounded = min(max(accuracy, 1 / images), 1 - 1 / images)
    return float(1.96 * (bounded * (1 - bounded) / images) ** 0.5)


def _say(row: ConfirmedTrial, *, is_first: bool, whole: Collection[int]) -> str:
    if row.trial not in whole:
        return "dropped"
    return "chosen" if is_first else "tied" if row.tied else ""


def _row(
    study: Ledger,
    of: int,
    trials: Sequence[TrialFacts],
    searched: TrialFacts | None,
    ranking: Ranking,
    *,
    is_tied: bool,
) -> ConfirmedTrial:
    values = [trial.value or 0.0 for trial in trials]
    mean, before = float(np.mean(values)), 0.0 if searched is None else searched.value or 0.0
    leaves_out = trials[0].left_out is not None
    margin = (
        _margin_by_images(study, mean, len(trials))
        if _counts_images(study, {of: trials})
        else ranking.margin * (ranking.replicas / len(trials)) ** 0.5
    )
    most = 1.0 if OBJECTIVES[study.record.objective] else np.inf
    return ConfirmedTrial(
        trial=of,
        accuracies=tuple(values),
        val_accuracy=float(np.mean([trial.val_accuracy for trial in trials])),
        mean=mean,
        total=sum(values) + before if leaves_out else mean,
        low=max(0.0, mean - margin),
        high=float(min(most, mean + margin)),
        searched=before,
        parameters=int(trials[0].scalars["parameters"]),
        seconds=float(np.mean([trial.scalars["fit_seconds"] for trial in trials])),
        tied=is_tied,
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
