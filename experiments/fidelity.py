"""Which strategy spends its epochs best: replayed on the full curves of real trials.

    mnist-lab sweep --space-file experiments/benchmarks/spaces.py:fnn --trials 48 --epochs 10 \\
        --sampler random --pruner none --study curves
    python experiments/fidelity.py curves --target 0.98

Every trial of such a study was trained to its end, so what any strategy would have seen is known, and
when. Each is played ``--repeats`` times on the trials in another order, by two workers, without audits;
halving by the code that sweeps use.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Callable, Sequence
from statistics import mean, median

from mnist_lab.search import SchedulerDecision
from mnist_lab.search.halving import Halving
from mnist_lab.settings import Settings
from mnist_lab.study import open_study
from mnist_lab.training import EpochMetrics

Curve = Sequence[EpochMetrics]
Trace = list[tuple[float, float]]  # when an epoch ended, in seconds, and the best accuracy so far

# Seconds, of building and tracing: an epoch's own seconds have neither.
BEGINNING = RESUMING = 0.3
EPOCHS = 10  # of every curve
BASELINE = 0  # the study's first trial


class Replay:
    """Halving over ``curves`` on ``workers`` workers, as ``mnist_lab.search.halving`` decides."""

    def __init__(self, curves: list[Curve], halving: Halving, workers: int) -> None:
        self._curves = curves
        self._halving = halving
        self._begun = 0
        self._idle = workers
        # When which trial ends which epoch.
        self._running: list[tuple[float, int, int]] = []
        self.trace: Trace = []
        self._ask(0.0)

    def run(self) -> Trace:
        best = 0.0
        while self._running:
            now, trial, epoch = heapq.heappop(self._running)
            best = max(best, self._curves[trial][epoch - 1].val_accuracy)
            self.trace.append((now, best))
            decision = self._halving.on_epoch(trial, self._curves[trial][:epoch], epoch)
            if decision is SchedulerDecision.PAUSE:
                self._halving.on_pause(trial, epoch)
            if decision is SchedulerDecision.CONTINUE and epoch < len(self._curves[trial]):
                self._train(now, trial, epoch + 1)
            else:
                self._idle += 1
            self._ask(now)
        return self.trace

    def _ask(self, now: float) -> None:
        """What free workers do: go on with a promoted trial, or begin one."""
        while self._idle:
            waiting = dict(self._halving.paused)
            choice = self._halving.next(new_wanted=self._begun < len(self._curves))
            if choice is None:
                return
            if choice.trial is not None:
                self._train(now + RESUMING, choice.trial, waiting[choice.trial] + 1)
            else:
                self._begun += 1
                self._train(now + BEGINNING, self._begun - 1, 1)
            self._idle -= 1

    def _train(self, now: float, trial: int, epoch: int) -> None:
        seconds = self._curves[trial][epoch - 1].seconds
        heapq.heappush(self._running, (now + seconds, trial, epoch))


class Unaudited(Halving):
    """Where no trial is trained on to see whether pruning it is right."""

    def _is_audited(self, trial: int) -> bool:
        return False


class LeadersFirst(Unaudited):
    """Where the best of those that came to a rung goes on at once, be it the only one."""

    def on_epoch(self, trial: int, history: Curve, epoch: int) -> SchedulerDecision:
        decision = super().on_epoch(trial, history, epoch)
        leads = epoch in self._ranked and self._ranked[epoch][0][1] == trial
        return SchedulerDecision.CONTINUE if leads else decision


class Median(Unaudited):
    """As Optuna's MedianPruner with five whole trials first and no decision on a first epoch."""

    _curves: dict[int, Curve]

    def on_epoch(self, trial: int, history: Curve, epoch: int) -> SchedulerDecision:
        self._curves = {**getattr(self, "_curves", {}), trial: history}
        ended = [each for each in self._curves.values() if len(each) == EPOCHS]
        others = [each[epoch - 1].val_accuracy for each in ended]
        mine = max(each.val_accuracy for each in self._curves[trial])
        poor = len(ended) >= 5 and epoch > 1 and mine < median(others)
        return SchedulerDecision.PRUNE if poor else SchedulerDecision.CONTINUE


def halving(
    *rungs: int, reduction: int, kind: type[Halving] = Unaudited, exempt: Sequence[int] = ()
) -> Callable[[int], Halving]:
    """Makes the standings of a study of so many trials."""
    return lambda trials: kind(
        trials=trials, epochs=EPOCHS, rungs=rungs, seed=0, reduction=reduction, exempt=exempt
    )


STRATEGIES: dict[str, Callable[[int], Halving]] = {
    "none": halving(reduction=3),
    "median": halving(reduction=3, kind=Median),
    "halving 1 3, third": halving(1, 3, reduction=3),
    "third, leaders first": halving(1, 3, reduction=3, kind=LeadersFirst),
    "third, baseline first": halving(1, 3, reduction=3, exempt=[BASELINE]),
    "halving 1 3, quarter": halving(1, 3, reduction=4),
    "quarter, leaders first": halving(1, 3, reduction=4, kind=LeadersFirst),
    "quarter, baseline first": halving(1, 3, reduction=4, exempt=[BASELINE]),
    "halving 1 2 5, half": halving(1, 2, 5, reduction=2),
    "halving 2 5, third": halving(2, 5, reduction=3),
    "halving 3, third": halving(3, reduction=3),
    "screen after 1, tenth": halving(1, reduction=10),
    "screen after 1, fifth": halving(1, reduction=5),
}


def rank_correlation(curves: list[Curve], epoch: int) -> float:
    """Spearman's, between the best up to ``epoch`` and the best in the end."""
    from scipy.stats import spearmanr

    early = [max(each.val_accuracy for each in curve[:epoch]) for curve in curves]
    final = [max(each.val_accuracy for each in curve) for curve in curves]
    return float(spearmanr(early, final).statistic)


def play(make: Callable[[int], Halving], curves: list[Curve], options: argparse.Namespace) -> str:
    """A line of the table: a strategy over the trials in many orders; the baseline stays first."""
    shuffle = random.Random(0)
    traces = [
        Replay(
            [curves[0], *shuffle.sample(curves[1:], len(curves) - 1)],
            make(len(curves)),
            options.workers,
        ).run()
        for _ in range(options.repeats)
    ]
    hits = [
        next((now for now, best in trace if best >= options.target), float("inf"))
        for trace in traces
    ]
    hits.sort()
    quartile, middle, ninth = (hits[len(hits) * share // 100] for share in (25, 50, 90))
    return (
        f"{mean(map(len, traces)):7.0f} {mean(trace[-1][1] for trace in traces):7.4f} "
        f"{quartile:7.0f} {middle:7.0f} {ninth:7.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--target", type=float, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    trials = open_study(Settings(), options.study).ranked()
    best = trials[0].value
    curves = [trial.history for trial in sorted(trials, key=lambda each: each.number)]
    print(f"{options.study}: {len(curves)} trials, best {best:.4f}")
    for epoch in (1, 3, 5):
        print(f"rank correlation after epoch {epoch}: {rank_correlation(curves, epoch):.2f}")
    print(f"seconds to {options.target}: quartile, median, nine of ten")
    print(f"{'strategy':24} {'epochs':>7} {'best':>7} {'25 %':>7} {'50 %':>7} {'90 %':>7}")
    for name, make in STRATEGIES.items():
        print(f"{name:24} {play(make, curves, options)}")


if __name__ == "__main__":
    main()
