"""How often promotion finds a better model, and how often a worse one: a simulation with a known truth.

    python experiments/promotion.py --repeats 1000
    python experiments/promotion.py --repeats 1000 --world fnn --json

A world has 60,000 public images in six parts and 10,000 sealed ones. A configuration has a true
accuracy; it is wrong on an image where ``a z + b u + c e`` exceeds the threshold of that accuracy:
``z`` is the image's difficulty, the same for all models, ``u`` belongs to the configuration and ``e``
to the training. So a² is the correlation between configurations, and a² + b² that within one.

In each repeat two searches of 50 configurations are made, and the second's choice challenges the
first's. Three ways to decide:

    single  the best single run is promoted if it is better than the one that made the champion
    old     mnist-lab until November 2026: five configurations, three seeds each, ties to the smallest;
            the best replica meets the champion on the sealed images, McNemar's exact two-sided test
    new     ``promotion/evidence.py``: halving over parts left out, up to three rounds of trainings,
            one opening of the sealed images

A promotion is wrong if the challenger's configuration is truly worse than the champion's. Intervals are
Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import stats

from mnist_lab.promotion.evidence import (
    ROUNDS,
    Arm,
    Comparison,
    compare_arms,
    compare_public,
    is_futile,
    level_of,
)

PARTS, PART_IMAGES, SEALED = 6, 10_000, 6  # the sealed images are kept as a seventh part
# Of the searches of cnn-v2 in LOG.md: configurations that end their training lie around 99.3 %, 0.12
# points apart.
MEAN, APART = 0.993, 0.0012
TRIALS, TOP, SEEDS = 50, 5, 3
LEFT_OUT = (2, 3, 4)
SIGNIFICANCE = 0.05
# Standard deviations: images that no model gets wrong but once in three million are skipped.
NEVER = 5.0


@dataclass(frozen=True)
class WorldSpec:
    """``across`` and ``within``: correlations of mistakes between configurations, and within one.

    ``seeds_apart`` is the standard deviation of true accuracy between trainings of one configuration.
    """

    across: float
    within: float
    seeds_apart: float = 0.0


# Measured on real replicas; then what if configurations or trainings had less in common.
WORLDS = {
    "cnn": WorldSpec(0.90, 0.91),
    "fnn": WorldSpec(0.957, 0.96),
    "alone": WorldSpec(0.8, 0.8),
    "seeds": WorldSpec(0.8, 0.9, 0.0002),
    "measured": WorldSpec(
        0.872, 0.951, 0.00086
    ),  # the largest effect of a seed in six configurations
}


class World:
    """The images of one repeat."""

    def __init__(self, spec: WorldSpec, random: np.random.Generator) -> None:
        self.spec, self.random = spec, random
        a, rest = spec.across**0.5, (1 - spec.across) ** 0.5
        # The easiest threshold that a configuration has.
        lowest = stats.norm.ppf(MEAN - 4.5 * APART) - NEVER * rest
        images = random.standard_normal((PARTS + 1, PART_IMAGES))
        self.common = [a * part[a * part > lowest] for part in images]

    def configuration(self, truth: float | None = None) -> Configuration:
        drawn = self.random.normal(MEAN, APART) if truth is None else truth
        return Configuration(self, float(np.clip(drawn, MEAN - 4 * APART, 0.9999)))


@dataclass
class Configuration:
    """A configuration, with its true accuracy."""

    world: World
    truth: float
    seen: float = 0.0  # the search's accuracy on part 5
    own: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    def train(self, members: int = 1) -> Training:
        shift = self.world.random.normal(0, self.world.spec.seeds_apart / members**0.5)
        return Training(self, min(0.9999, self.truth + shift), members)

    def score(self, part: int) -> NDArray[np.float64]:
        """The images' difficulty to this configuration."""
        if part not in self.own:
            spec, common = self.world.spec, self.world.common[part]
            b = (spec.within - spec.across) ** 0.5
            noise = self.world.random.standard_normal(len(common)) if b else 0.0
            self.own[part] = common + b * noise
        return self.own[part]


@dataclass
class Training:
    """One training of a configuration, or an ensemble of so many ``members``.

    The mean of an ensemble has the mean of its members' ``e``, which is smaller: so it is more often
    right than each of them. ``truth`` is the accuracy of a member.
    """

    of: Configuration
    truth: float
    members: int = 1

    def wrong(self, part: int) -> NDArray[np.bool_]:
        """The mistakes on a part, ``(10000,)``, each drawn anew; skipped images are right."""
        spec, score = self.of.world.spec, self.of.score(part)
        scale = ((1 - spec.within) / self.members) ** 0.5
        noise = scale * self.of.world.random.standard_normal(len(score))
        found = np.zeros(PART_IMAGES, bool)
        found[: len(score)] = score + noise > stats.norm.ppf(self.truth)
        return found

    def accuracy(self, part: int) -> float:
        return float(1 - self.wrong(part).mean())


def search(world: World, trials: int = TRIALS, truth: float | None = None) -> list[Configuration]:
    """Train configurations once each; return them, the best on part 5 first."""
    found = [world.configuration(truth) for _ in range(trials)]
    for each in found:
        each.seen = each.train().accuracy(5)
    return sorted(found, key=lambda each: -each.seen)


@dataclass
class Side:
    """A configuration's trainings, made when they are needed and kept; an ensemble has all at once."""

    configuration: Configuration
    members: int = 1
    first: list[Training] = field(default_factory=list)  # of confirm, without parts 0 and 1
    rounds: list[dict[int, Training]] = field(default_factory=list)
    parts: dict[int, list[NDArray[np.bool_]]] = field(default_factory=dict)
    sealed: NDArray[np.bool_] | None = None

    def train_round(self) -> None:
        made = {part: self.configuration.train(self.members) for part in LEFT_OUT}
        self.rounds.append(made)
        for part, training in made.items():
            self.parts.setdefault(part, []).append(training.wrong(part))

    def arm(self, rounds: int, *, opened: bool = False) -> Arm:
        rounds = rounds if self.members == 1 else 1
        while len(self.rounds) < rounds:
            self.train_round()
        if opened and self.sealed is None:
            every = [*self.first, *(each for made in self.rounds for each in made.values())]
            self.sealed = np.stack([each.wrong(SEALED) for each in every])
        return Arm(
            parts={part: np.stack(rows[:rounds]) for part, rows in self.parts.items()},
            sealed=self.sealed,
            members=self.members,
        )


def confirm(found: list[Configuration]) -> Side:
    """Choose by halving: five without part 0, the best three of them without part 1."""
    top = found[:TOP]
    first = [each.train() for each in top]
    sums = [each.seen + training.accuracy(0) for each, training in zip(top, first, strict=True)]
    kept = sorted(range(len(top)), key=lambda index: -sums[index])[: (len(top) + 1) // 2]
    second = {index: top[index].train() for index in kept}
    best = max(kept, key=lambda index: sums[index] + second[index].accuracy(1))
    return Side(top[best], first=[first[best], second[best]])


@dataclass(frozen=True)
class Outcome:
    """The end of a challenge; ``comparison`` is None where the seal stayed closed."""

    promoted: bool
    trainings: int
    comparison: Comparison | None

    @property
    def opened(self) -> bool:
        return self.comparison is not None


def challenge(challenger: Side, champion: Side, level: float, *, gain: float = 0.0) -> Outcome:
    """Up to three rounds, and one opening; ``trainings`` counts the challenger's in the rounds."""
    for rounds in range(1, ROUNDS + 1):
        public = compare_public(challenger.arm(rounds), champion.arm(rounds))
        assert public is not None
        if is_futile(public, rounds):
            return Outcome(promoted=False, trainings=3 * rounds, comparison=None)
    both = challenger.arm(ROUNDS, opened=True), champion.arm(ROUNDS, opened=True)
    comparison = compare_arms(*both, minimum_gain=gain)
    promoted = comparison.p_value < level
    return Outcome(promoted=promoted, trainings=3 * ROUNDS, comparison=comparison)


# The former procedure


def choose_formerly(found: list[Configuration]) -> Training:
    """Three seeds each on part 5; of those within Tukey's difference any, its best replica."""
    top = found[:TOP]
    trained = [[each.train() for _ in range(SEEDS)] for each in top]
    seen = np.array([[each.accuracy(5) for each in row] for row in trained])
    means, within = seen.mean(axis=1), seen - seen.mean(axis=1, keepdims=True)
    paired = within - within.mean(axis=0)
    freedom = (TOP - 1) * (SEEDS - 1)
    quantile = stats.studentized_range.ppf(0.95, TOP, freedom)
    difference = quantile * np.sqrt(np.square(paired).sum() / freedom) / np.sqrt(SEEDS)
    tied = np.flatnonzero(means.max() - means <= difference)
    chosen = top[0].world.random.choice(tied)  # sizes, which decide, are not simulated
    return trained[chosen][int(seen[chosen].argmax())]


def judge_formerly(challenger: Training, champion: Training) -> bool:
    after, before = challenger.wrong(SEALED), champion.wrong(SEALED)
    gained, lost = int((before & ~after).sum()), int((after & ~before).sum())
    exact = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    return bool(gained > lost and exact < SIGNIFICANCE)


def simulate(spec: WorldSpec, repeats: int, seed: int) -> dict[str, Counter[str]]:
    """Count outcomes of ``repeats`` pairs of searches by each way to decide."""
    counts = {way: Counter[str]() for way in ("single", "old", "new")}
    for child in track(np.random.SeedSequence(seed).spawn(repeats), transient=True):
        world = World(spec, np.random.default_rng(child))
        earlier, later = search(world), search(world)
        if later[0].seen > earlier[0].seen:
            _count(counts["single"], later[0], earlier[0], promoted=True)
        else:
            _count(counts["single"], later[0], earlier[0], promoted=False)
        before, after = choose_formerly(earlier), choose_formerly(later)
        promoted = judge_formerly(after, before)
        _count(counts["old"], after.of, before.of, promoted=promoted)
        counts["old"].update(trainings=TOP * SEEDS, openings=1)
        champion, challenger = confirm(earlier), confirm(later)
        outcome = challenge(challenger, champion, level_of(SIGNIFICANCE, 1, 0))
        sides = challenger.configuration, champion.configuration
        _count(counts["new"], *sides, promoted=outcome.promoted)
        trained = TOP + (TOP + 1) // 2 + outcome.trainings
        counts["new"].update(trainings=trained, openings=int(outcome.opened))
    return counts


def _count(
    counts: Counter[str], after: Configuration, before: Configuration, *, promoted: bool
) -> None:
    better = after.truth > before.truth
    counts.update(searches=1, promoted=promoted, better=better)
    counts.update(found=promoted and better, wrong=promoted and not better)
    for least, most in ((0.0, 0.0005), (0.0005, 0.001), (0.001, 1.0)):
        if least < after.truth - before.truth <= most:
            counts.update({f"better by {least}": 1, f"found by {least}": int(promoted)})


def simulate_repeated(
    spec: WorldSpec, chains: int, length: int, seed: int, *, counts_futile: bool = True
) -> dict[str, list[int]]:
    """Challenge a champion ``length`` times by equal configurations.

    Return how many of them each chain promoted, by the old and the new procedure. A promoted challenger
    is the next one's champion.
    """
    found: dict[str, list[int]] = {"old": [], "new": []}
    for child in track(np.random.SeedSequence(seed).spawn(chains), transient=True):
        world = World(spec, np.random.default_rng(child))
        held, former = Side(world.configuration(MEAN)), world.configuration(MEAN).train()
        tries, promotions, formerly = 0, 0, 0
        for _ in range(length):
            side = Side(world.configuration(MEAN))
            level = level_of(SIGNIFICANCE, tries + 1, promotions)
            outcome = challenge(side, held, level)
            tries += outcome.opened or counts_futile
            if outcome.promoted:
                promotions, held = promotions + 1, side
            other = world.configuration(MEAN).train()
            if judge_formerly(other, former):
                formerly, former = formerly + 1, other
        found["old"].append(formerly)
        found["new"].append(promotions)
    return found


def simulate_peeking(spec: WorldSpec, repeats: int, looks: int, seed: int) -> float:
    """The share of champions that one of ``looks`` equal challengers beats when every challenge is held
    at 0.05: what counting challenges prevents."""
    fooled = 0
    for child in np.random.SeedSequence(seed).spawn(repeats):
        world = World(spec, np.random.default_rng(child))
        held = Side(world.configuration(MEAN))
        fooled += any(
            challenge(Side(world.configuration(MEAN)), held, SIGNIFICANCE).promoted
            for _ in range(looks)
        )
    return fooled / repeats


def simulate_ensembles(
    spec: WorldSpec, repeats: int, seed: int, *, members: int = 3
) -> dict[str, dict[str, float]]:
    """Challenge by ensembles: how many of them are promoted, by what they meet.

    The first two are truly equal to what they meet. The third is of the champion's own configuration,
    and truly better than its single trainings by ``gain``, in [0, 1].
    """
    # How much less the mean's score varies than a member's, which has a variance of 1.
    scale = (1 - (1 - spec.within) * (1 - 1 / members)) ** 0.5
    threshold = stats.norm.ppf(MEAN)
    as_good = float(
        stats.norm.cdf(threshold * scale)
    )  # a member's, of an ensemble of accuracy MEAN
    counts = Counter[str]()
    for child in track(np.random.SeedSequence(seed).spawn(repeats), transient=True):
        world = World(spec, np.random.default_rng(child))
        own = world.configuration(MEAN)
        single, ensemble = Side(own), Side(own, members)
        another, weaker = world.configuration(MEAN), world.configuration(as_good)
        level = level_of(SIGNIFICANCE, 1, 0)
        counts["an equal ensemble"] += challenge(Side(another, members), ensemble, level).promoted
        counts["equal single trainings"] += challenge(Side(weaker, members), single, level).promoted
        counts["its own single trainings"] += challenge(ensemble, single, level).promoted
    gain = float(stats.norm.cdf(threshold / scale)) - MEAN
    return {name: share(count, repeats) | {"gain": gain * name.startswith("its")}
            for name, count in counts.items()}  # fmt: skip


def share(count: int, of: int) -> dict[str, float]:
    """A share with Wilson's 95 % interval."""
    if not of:
        return {"share": 0.0, "low": 0.0, "high": 1.0, "of": 0}
    bounds = stats.binomtest(count, of).proportion_ci(method="wilson")
    return {
        "share": count / of,
        "low": float(bounds.low),
        "high": float(bounds.high),
        "of": of,
    }


def summarise(counts: Counter[str]) -> dict[str, object]:
    """Shares in [0, 1] beside their intervals, and means a search."""
    power = share(counts["found"], counts["better"])
    wrong = share(counts["wrong"], counts["promoted"])
    return {
        "power": power["share"],
        "wrong": wrong["share"],
        "trainings": counts["trainings"] / counts["searches"],
        "openings": counts["openings"] / counts["searches"],
        "promoted": counts["promoted"],
        "intervals": {"power": power, "wrong": wrong},
        "power by true gain": {
            name.removeprefix("better by "): share(counts[f"found by {name[10:]}"], count)
            for name, count in sorted(counts.items())
            if name.startswith("better by ")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world", choices=WORLDS, default="cnn")
    parser.add_argument("--chains", type=int, help="of 20 equal challengers; default: repeats / 10")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spec = WORLDS[options.world]
    counts = simulate(spec, options.repeats, options.seed)
    result: dict[str, object] = {way: summarise(each) for way, each in counts.items()}
    chains = options.repeats // 10 if options.chains is None else options.chains
    if chains:
        repeated = simulate_repeated(spec, chains, 20, options.seed)
        result["any promotion in 20 equal challenges"] = {
            way: share(sum(each > 0 for each in found), chains) for way, found in repeated.items()
        }
        futile = simulate_repeated(spec, chains, 20, options.seed, counts_futile=False)["new"]
        result["the same, challenges that ended unopened not counted"] = share(
            sum(each > 0 for each in futile), chains
        )
        result["any promotion in 20 challenges at one level"] = simulate_peeking(
            spec, chains, 20, options.seed
        )
        result["ensembles of 3 that were promoted, by what they met"] = simulate_ensembles(
            spec, chains, options.seed
        )
    if options.json:
        print(json.dumps(result))
        return
    print(json.dumps({"world": options.world, "repeats": options.repeats, **result}, indent=1))


if __name__ == "__main__":
    main()
