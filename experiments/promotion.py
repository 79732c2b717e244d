"""How often promotion picks a model that is truly worse: a simulation with a known truth.

    python experiments/promotion.py --repeats 1000

Each repeat: a champion, found by an earlier search of the same kind, and a search of 50
configurations. A configuration has a true accuracy; a training of it one that differs from seed to
seed; what is measured is counted on 10,000 validation images. Two ways to decide, given one search:

    single    the best single run of the search is promoted if its validation accuracy is higher than
              the one that made the champion champion: what a script with study.best_trial does
    gate      the five best are trained again with three seeds, ranked by the product's own
              ``rank_replicas``, ties go to the smallest; the best replica meets the champion on 10,000
              other images, which both see, before the product's own ``judge``

A promotion is wrong if the model (this training of it) is truly worse than the champion.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mnist_lab.promotion.gate import GatePolicy, Measured, judge
from mnist_lab.study.confirmation import rank_replicas

IMAGES = 10_000
# Of the searches of cnn-v2 in LOG.md: configurations that end their training lie around 99.3 %, 0.12
# points apart; seeds of one configuration 0.05 points.
MEAN, CONFIGURATIONS_APART, SEEDS_APART = 0.993, 0.0012, 0.0005
TRIALS, TOP, SEEDS = 50, 5, 3
# Two models fail on much the same images: the correlation of what decides over each of them.
SHARED = 0.8
POLICY = GatePolicy(maximum_recall_loss=1.0)  # classes are not simulated


@dataclass(frozen=True)
class Model:
    """``truth``: this training's accuracy on all images there are; ``seen``: on the validation's."""

    truth: float
    seen: float


def train(random: np.random.Generator, configuration: float) -> Model:
    truth = float(np.clip(configuration + random.normal(0, SEEDS_APART), 0, 1))
    return Model(truth, random.binomial(IMAGES, truth) / IMAGES)


def search(random: np.random.Generator) -> tuple[list[float], list[Model]]:
    configurations = [
        float(np.clip(each, 0, 1)) for each in random.normal(MEAN, CONFIGURATIONS_APART, TRIALS)
    ]
    return configurations, [train(random, each) for each in configurations]


def confirm(random: np.random.Generator, configurations: list[float], runs: list[Model]) -> Model:
    """The best replica of the choice; sizes, which decide ties, are drawn."""
    best = sorted(range(TRIALS), key=lambda index: -runs[index].seen)[:TOP]
    replicas = [[train(random, configurations[index]) for _ in range(SEEDS)] for index in best]
    ranking = rank_replicas(np.array([[each.seen for each in row] for row in replicas]))
    tied = np.flatnonzero(ranking.means.max() - ranking.means <= ranking.difference)
    return max(replicas[random.choice(tied)], key=lambda each: each.seen)


def examine(random: np.random.Generator, models: list[Model]) -> list[Measured]:
    """Predictions of both on the same images: 0 is right, 1 is wrong."""
    common = random.standard_normal(IMAGES)
    measured = []
    for model in models:
        score = SHARED**0.5 * common + (1 - SHARED) ** 0.5 * random.standard_normal(IMAGES)
        wrong = (score > stats.norm.ppf(model.truth)).astype(np.int64)
        measured.append(
            Measured(predicted=wrong, calibration_error=0.0, parameters=1, file_size=1, latency=1.0)
        )
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random, labels = np.random.default_rng(options.seed), np.zeros(IMAGES, np.uint8)
    counts: Counter[str] = Counter()
    optimism = {"single": [], "gate": []}
    for _ in range(options.repeats):
        earlier, earlier_runs = search(random)
        lucky = max(earlier_runs, key=lambda each: each.seen)
        champion = confirm(random, earlier, earlier_runs)
        configurations, runs = search(random)
        best = max(runs, key=lambda each: each.seen)
        optimism["single"].append(best.seen - best.truth)
        if best.seen > lucky.seen:
            counts["single promoted"] += 1
            counts["single wrong"] += best.truth < lucky.truth
        challenger = confirm(random, configurations, runs)
        optimism["gate"].append(challenger.seen - challenger.truth)
        verdict = judge(*examine(random, [challenger, champion]), labels, POLICY).verdict
        counts[f"gate {verdict}"] += 1
        if verdict == "promote":
            counts["gate promoted"] += 1
            counts["gate wrong"] += challenger.truth < champion.truth
        if challenger.truth > champion.truth:
            counts["truly better challengers"] += 1
            counts["truly better, promoted"] += verdict == "promote"
    mean = {name: f"{100 * np.mean(each):+.3f} points" for name, each in optimism.items()}
    print(json.dumps({"repeats": options.repeats, **counts, "seen above truth": mean}, indent=1))


if __name__ == "__main__":
    main()
