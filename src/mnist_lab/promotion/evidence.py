"""Whether challenger or champion is better: statistics of their mistakes, image by image.

Two configurations are compared, each by several trainings. What differs from training to training is
luck on single images; it averages out over trainings and over images. Numbers in, numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Wrong = NDArray[np.bool_]  # (trainings, images): where a training's prediction is wrong

CONFIDENCE = 0.95  # of intervals
POWER = 0.8  # the chance with which the smallest detectable gain would be found
# A challenge ends early when its z on public images is below, after so many rounds. Simulated: of
# truly better challengers 3 % are lost so, and half of the others cost three trainings instead of nine.
FUTILE_BELOW: Mapping[int, float] = {1: 0.0, 2: 0.5}
LAST_FUTILE = max(FUTILE_BELOW)
ROUNDS = 3
NORMAL = NormalDist()
FEW_IMAGES = 10  # of a class: with less no loss is shown
ROUNDING = 1e-20  # of variances: what equal trainings differ by in floating point


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """The mistakes of one configuration's trainings.

    ``parts`` has ``(m, N_j) bool`` for each part of the public images: of the ``m`` trainings that left
    the part out. ``sealed`` is ``(n, N_S) bool``; None before the sealed images were opened. With
    ``members`` each row is of an ensemble of so many trainings, which left the same part out.
    """

    parts: Mapping[int, Wrong]
    sealed: Wrong | None = None
    members: int = 1

    @property
    def trainings(self) -> int:
        """How many trainings, or ensembles, the arm has on whichever images."""
        public = sum(len(each) for each in self.parts.values())
        return max(public, 0 if self.sealed is None else len(self.sealed))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The challenger's accuracy minus the champion's on ``images``; ``variance`` is of ``gain``."""

    gain: float
    variance: float
    images: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Challenger against champion on all images.

    ``gain`` is the difference of their accuracies, ``error`` its standard error, ``low`` to ``high``
    its 95 % interval. ``p_value`` is one-sided, of a gain of at most ``minimum_gain``. ``public`` is
    None where no part was left out by both. ``trainings`` are the challenger's and the champion's;
    ensembles of so many ``members``, if they have more than one.
    """

    gain: float
    error: float
    low: float
    high: float
    p_value: float
    minimum_gain: float
    public: Difference | None
    sealed: Difference
    trainings: tuple[int, int]
    members: tuple[int, int] = (1, 1)

    @property
    def is_worse(self) -> bool:
        """Whether the 95 % interval lies below 0, whatever gain is asked."""
        return self.error > 0 and NORMAL.cdf(self.gain / self.error) < (1 - CONFIDENCE) / 2


def standardise(gain: float, error: float) -> float:
    """Return ``gain / error``; 0 where nothing differs."""
    return gain / error if error > 0 else 0.0


def compare_public(challenger: Arm, champion: Arm) -> Difference | None:
    """Compare two arms on the parts that both left out; None if there is no such part.

    A part's images were seen by none of its trainings. Means and variances of parts are averaged as in
    cross-validation (Bayle, Bayle, Janson and Mackey 2020, arXiv 2007.12671).
    """
    shared = _shared_parts(challenger, champion)
    if not shared:
        return None
    found = [_compare(challenger.parts[part], champion.parts[part]) for part in shared]
    return Difference(
        gain=float(np.mean([each.gain for each in found])),
        variance=sum(each.variance for each in found) / len(found) ** 2,
        images=sum(each.images for each in found),
    )


def compare_arms(challenger: Arm, champion: Arm, *, minimum_gain: float = 0.0) -> Comparison:
    """Compare two arms on public and sealed images, each weighted by its precision.

    Args:
        challenger, champion: both with ``sealed``.
        minimum_gain: the greatest gain under the null hypothesis, in [0, 1].
    """
    assert challenger.sealed is not None
    assert champion.sealed is not None
    sealed, public = _compare(challenger.sealed, champion.sealed), None
    gain, variance = sealed.gain, sealed.variance
    both = compare_public(challenger, champion)
    if both is not None:
        public = both
        total = public.variance + sealed.variance
        weight = sealed.variance / total if total else 0.0
        gain = weight * public.gain + (1 - weight) * sealed.gain
        variance = weight**2 * public.variance + (1 - weight) ** 2 * sealed.variance
    variance += sum(_seed_variance(arm, other) for arm, other in _both_ways(challenger, champion))
    error = variance**0.5
    half = NORMAL.inv_cdf((1 + CONFIDENCE) / 2) * error
    z = standardise(gain - minimum_gain, error)
    return Comparison(
        gain=gain,
        error=error,
        low=gain - half,
        high=gain + half,
        p_value=NORMAL.cdf(-z),
        minimum_gain=minimum_gain,
        public=public,
        sealed=sealed,
        trainings=(challenger.trainings, champion.trainings),
        members=(challenger.members, champion.members),
    )


def is_futile(public: Difference, rounds: int, margin: float = 0.0) -> bool:
    """Return whether to end a challenge after ``rounds`` of trainings, with the seal unopened.

    A challenger that may be worse by ``margin`` is taken for better by as much.
    """
    if rounds not in FUTILE_BELOW:
        return False
    gain = public.gain + margin
    if public.variance == 0:  # no image tells the two apart
        return gain <= 0
    return standardise(gain, public.variance**0.5) < FUTILE_BELOW[rounds]


def estimate_seed_variance(wrong: Wrong) -> float:
    """Estimate the variance of true accuracy between trainings of one configuration.

    The variance of their accuracies on these images, less what single images contribute when every
    training draws its mistakes anew (Gallas, Pennello and Myers 2007, J. Opt. Soc. Am. A 24, B70).
    0 for fewer than two trainings.
    """
    n, images = wrong.shape
    if n < 2:
        return 0.0
    share = wrong.mean(axis=0)
    by_image = float((n / (n - 1) * share * (1 - share)).sum()) / images**2
    found = float(np.var(1 - wrong.mean(axis=1), ddof=1)) - by_image
    return found if found > ROUNDING else 0.0


def level_of(significance: float, challenge: int, promotions: int) -> float:
    """Return the level of the ``challenge``-th test on the same sealed images, counted from 1.

    Levels fall with the number of challenges and rise with that of ``promotions`` so far, so that the
    expected share of wrong promotions stays below ``significance`` however often one asks (LOND,
    Javanmard and Montanari 2015, arXiv 1502.06197).
    """
    share = 6 / (math.pi**2 * challenge * challenge)
    level: float = significance * share * (1 + promotions)
    return min(1.0, level)


def detectable_gain(error: float, level: float) -> float:
    """Return the true gain that would be found at ``level`` with a chance of ``POWER``."""
    return (NORMAL.inv_cdf(1 - level) + NORMAL.inv_cdf(POWER)) * error


def is_not_worse(comparison: Comparison, margin: float, level: float) -> bool:
    """Return whether the challenger is shown to be worse by less than ``margin``, at ``level``."""
    if comparison.error == 0:  # no image tells the two apart
        return comparison.gain + margin > 0
    z = standardise(comparison.gain + margin, comparison.error)
    return NORMAL.cdf(-z) < level


def bound_recall_losses(
    challenger: Arm,
    champion: Arm,
    part_labels: Mapping[int, NDArray[np.uint8]],
    sealed_labels: NDArray[np.uint8],
) -> dict[int, tuple[float, float]]:
    """Return, for each class, the recall that the challenger loses, and its one-sided lower bound.

    The bounds hold for all classes together with 95 % confidence (Bonferroni).
    """
    assert challenger.sealed is not None
    assert champion.sealed is not None
    shared = _shared_parts(challenger, champion)
    losses = [-_by_image(challenger.parts[part], champion.parts[part]) for part in shared]
    losses.append(-_by_image(challenger.sealed, champion.sealed))
    labels = np.concatenate([*(part_labels[part] for part in shared), sealed_labels])
    every, classes = np.concatenate(losses), np.unique(labels)
    quantile = NORMAL.inv_cdf(1 - (1 - CONFIDENCE) / len(classes))
    found = {}
    for label in classes:
        mine = every[labels == label]
        loss, low = float(mine.mean()), -1.0  # of a few images nothing is shown
        if len(mine) >= FEW_IMAGES:
            low = loss - quantile * float(np.std(mine, ddof=1)) / len(mine) ** 0.5
        found[int(label)] = loss, low
    return found


def pick_shipped(sealed: Wrong, order: list[int], level: float = 0.01) -> int:
    """Return the row of the training whose file is registered: the first of ``order``.

    One that is worse than the others on the sealed images is passed over (one-sided, at ``level``).
    """
    if len(sealed) < 2:
        return order[0]
    for row in order:
        others = np.delete(sealed, row, axis=0)
        difference = _compare(others, sealed[row : row + 1])
        if NORMAL.cdf(-standardise(difference.gain, difference.variance**0.5)) >= level:
            return row
    return order[0]


def _shared_parts(challenger: Arm, champion: Arm) -> list[int]:
    """The parts that both left out and that have images enough for a variance."""
    return [
        part
        for part in sorted(set(challenger.parts) & set(champion.parts))
        if challenger.parts[part].shape[1] > 1
    ]


def _by_image(challenger: Wrong, champion: Wrong) -> NDArray[np.float64]:
    """The champion's share of wrong trainings less the challenger's, for each image."""
    found: NDArray[np.float64] = champion.mean(axis=0) - challenger.mean(axis=0)
    return found


def _compare(challenger: Wrong, champion: Wrong) -> Difference:
    found = _by_image(challenger, champion)
    return Difference(
        gain=float(found.mean()),
        variance=float(np.var(found, ddof=1)) / len(found) if len(found) > 1 else np.inf,
        images=len(found),
    )


def _seed_variance(arm: Arm, other: Arm) -> float:
    """What the trainings of ``arm`` add to the variance of a difference.

    An arm of a single training says nothing of it, and takes the other's. The mean of several
    trainings varies less than one of them: that is made up for.
    """
    assert arm.sealed is not None
    assert other.sealed is not None
    public = sum(len(each) for each in arm.parts.values())
    count = max(1, public or len(arm.sealed))
    if len(arm.sealed) > 1:
        return estimate_seed_variance(arm.sealed) / count
    return estimate_seed_variance(other.sealed) * max(1, other.members / arm.members) / count


def _both_ways(first: Arm, second: Arm) -> tuple[tuple[Arm, Arm], tuple[Arm, Arm]]:
    return (first, second), (second, first)
