"""The noise of single runs, and what more trials would cost and gain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from optuna.trial import TrialState

from mnist_lab.config import VAL_ACCURACY
from mnist_lab.data import Split
from mnist_lab.evaluation import Predictions
from mnist_lab.report.images import count_differing
from mnist_lab.study import Ledger, find_replicas

Z95 = 1.959964  # the 97.5 % quantile of the normal distribution
# Fewer finished trials say nothing about the next ones; replayed sweeps were too sure below it.
MIN_TRIALS_FOR_ADVICE = 20
TAIL_SHARE, MIN_TAIL = 0.25, 5
CAME = 0.2  # of what the tail promises, on nine replayed sweeps
MORE_TRIALS = (10, 25, 50)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far two single runs differ by chance.

    ``difference`` is the half width of the 95 % interval of the difference of two runs, in the
    objective's unit. ``tied`` counts the first ranks, the best included, that are not further from the
    best than that; of ``of`` ranked trials. ``source`` says what it was measured on: ``replicas``
    (trainings with other seeds), ``images`` (the images on which the best two differ, as McNemar counts
    them), or ``count`` (the standard error of one accuracy on so many images).
    """

    difference: float
    source: Literal["replicas", "images", "count"]
    tied: int
    of: int


@dataclass(frozen=True, kw_only=True)
class MoreTrials:
    """What ``trials`` more would cost, and the chance that their best beats the best by ``gain``."""

    trials: int
    seconds: float
    gain: float
    chance: float


def measure_noise(
    study: Ledger,
    kept: Mapping[int, Predictions] | None = None,
    validation: Split | None = None,
) -> Noise | None:
    """Measure the noise of single runs; None where nothing can be said of it.

    ``kept`` are the predictions of trials by number, on the images of ``validation``.
    """
    ranked = study.ranked()
    if len(ranked) < 2:
        return None
    found = _from_replicas(study)
    source: Literal["replicas", "images", "count"] = "replicas"
    accuracy = study.record.objective == VAL_ACCURACY
    if found is None and accuracy and kept and validation is not None:
        both = [kept[each.number] for each in ranked[:2] if each.number in kept]
        if len(both) == 2:
            first, second = count_differing(both[0], both[1], validation.labels)
            found = Z95 * math.sqrt(first + second) / len(validation)
            source = "images"
    if not found and accuracy:
        images = study.record.splits["validation"].images
        found, source = noise_by_count(ranked[0].val_accuracy, images), "count"
    if not found:
        return None
    within = [ranked[0].score - each.score <= found for each in ranked]
    return Noise(difference=found, source=source, tied=sum(within), of=len(ranked))


def noise_by_count(accuracy: float, images: int) -> float:
    """Return ``Noise.difference`` by the number of images alone: 1.96 standard errors of an accuracy.

    Two runs see the same images, and their mistakes are mostly the same, so the difference of two
    accuracies varies less than two independent ones would.
    """
    bounded = min(max(accuracy, 1 / images), 1 - 1 / images)
    return Z95 * math.sqrt(bounded * (1 - bounded) / images)


def _from_replicas(study: Ledger) -> float | None:
    """The interval by the standard deviation within configurations; None without replicas."""
    replicas = find_replicas(study)
    if replicas is None:
        return None
    groups: dict[tuple[int, int | None], list[float]] = {}
    for trial in replicas.trials((TrialState.COMPLETE,)):
        if trial.replica_of is not None and trial.value is not None:
            # Replicas on the same images: parts are not equally hard.
            groups.setdefault((trial.replica_of, trial.left_out), []).append(trial.value)
    usable = [group for group in groups.values() if len(group) > 1]
    freedom = sum(len(group) - 1 for group in usable)
    if freedom < 4:
        return None
    squares = sum(float(np.var(group)) * len(group) for group in usable)
    return Z95 * math.sqrt(2 * squares / freedom)


def advise(study: Ledger, noise: Noise | None) -> tuple[MoreTrials, ...]:
    """Return what more trials would cost and gain; empty where too few were trained to say."""
    finished = sorted(
        study.trials((TrialState.COMPLETE, TrialState.PRUNED)), key=lambda each: each.ended
    )
    if noise is None or len(study.ranked()) < MIN_TRIALS_FOR_ADVICE:
        return ()
    scores = [each.score if each.is_possible else -math.inf for each in finished]
    gaps = np.diff([each.ended for each in finished])
    seconds = float(np.median(gaps)) if len(gaps) else 0.0
    return tuple(
        MoreTrials(
            trials=more,
            seconds=seconds * more,
            gain=noise.difference,
            chance=chance_of_gain(scores, noise.difference, more),
        )
        for more in MORE_TRIALS
    )


def chance_of_gain(scores: list[float], gain: float, more: int) -> float:
    """Estimate the chance that the best of ``more`` trials exceeds the best so far by ``gain``.

    The best quarter of ``scores`` (more is better, minus infinity for pruned trials) is taken for a
    tail that ends at twice its mean excess, a generalised Pareto tail of shape -1 (Pickands 1975),
    because accuracies have a ceiling; the next trials for draws like all before. Of what this promised
    on replayed sweeps a fifth came, hence ``CAME``. Tails without an end, and those of the later trials
    alone, promised much more (experiments/LOG.md).
    """
    ordered = sorted(filter(math.isfinite, scores), reverse=True)
    size = min(max(MIN_TAIL, round(TAIL_SHARE * len(scores))), len(ordered) - 1)
    if size < MIN_TAIL:
        return 0.0
    threshold = ordered[size]
    end = 2 * (sum(ordered[:size]) / size - threshold)
    if end <= 0:
        return 0.0
    excess = ordered[0] + gain - threshold
    one = size / len(scores) * max(0.0, 1 - excess / end)
    return CAME * (1 - (1 - min(1.0, one)) ** more)
