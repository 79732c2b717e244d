"""Which strategy spends its epochs best: replayed on the full curves of real trials.

    mnist-lab sweep --space-file experiments/benchmarks/spaces.py:fnn --trials 48 --epochs 10 \\
        --sampler random --pruner none --study curves
    python experiments/fidelity.py curves --target 0.98

Every trial of such a study was trained to its end, so what any strategy would have seen is known. Each
is played ``--repeats`` times on the trials in another order, by one worker, without audits; halving by
the code that sweeps use.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from statistics import mean, median

from mnist_lab.settings import Settings
from mnist_lab.sweep import ledger, open_study
from mnist_lab.sweep.fidelity import Halving, Verdict
from mnist_lab.training import EpochMetrics

Curve = Sequence[EpochMetrics]
Trace = list[float]  # the best accuracy so far, after each epoch that was trained


class Replay:
    """One worker's halving over ``curves``, as ``mnist_lab.sweep.fidelity`` decides."""

    def __init__(self, curves: list[Curve], rungs: tuple[int, ...], reduction: int) -> None:
        self._curves = curves
        self._halving = Halving(trials=len(curves), rungs=rungs, seed=0, reduction=reduction)
        self._halving.is_audited = lambda _: False
        self.trace: Trace = []

    def run(self) -> Trace:
        for trial in range(len(self._curves)):
            self._promote(all_asked=False)
            self._train(trial, 0)
        self._promote(all_asked=True)
        return self.trace

    def _train(self, trial: int, done: int) -> None:
        curve = self._curves[trial]
        for epoch in curve[done:]:
            self.trace.append(max(epoch.val_accuracy, self.trace[-1] if self.trace else 0.0))
            self._halving.record(trial, curve[: epoch.epoch])
            verdict = self._halving.judge(trial, epoch.epoch)
            if verdict is Verdict.PAUSE:
                self._halving.pause(trial, epoch.epoch)
            if verdict is not Verdict.GO_ON:
                return

    def _promote(self, *, all_asked: bool) -> None:
        while True:
            waiting = dict(self._halving.paused)
            trial = self._halving.promote(all_asked=all_asked)
            if trial is None:
                return
            self._train(trial, waiting[trial])


def halving(*rungs: int, reduction: int) -> Callable[[list[Curve]], Trace]:
    """Successive halving with promotion."""
    return lambda curves: Replay(curves, rungs, reduction).run()


def median_stopping(curves: list[Curve]) -> Trace:
    """As Optuna's MedianPruner with five whole trials first and no verdict on a first epoch."""
    trace: Trace = []
    seen: list[list[float]] = []
    for curve in curves:
        values: list[float] = []
        for epoch in curve:
            values.append(epoch.val_accuracy)
            trace.append(max(epoch.val_accuracy, trace[-1] if trace else 0.0))
            others = [each[epoch.epoch - 1] for each in seen if len(each) >= epoch.epoch]
            if len(seen) >= 5 and epoch.epoch > 1 and others and max(values) < median(others):
                break
        seen.append(values)
    return trace


STRATEGIES: dict[str, Callable[[list[Curve]], Trace]] = {
    "none": halving(reduction=3),
    "median": median_stopping,
    "halving 1 3, third": halving(1, 3, reduction=3),
    "halving 1 3, quarter": halving(1, 3, reduction=4),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--target", type=float, required=True)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    trials = ledger.rank(open_study(Settings(), options.study))
    curves = [ledger.read_history(trial) for trial in trials]
    print(f"{options.study}: {len(curves)} trials, best {trials[0].value:.4f}")
    for epoch in (1, 3, 5):
        print(f"rank correlation after epoch {epoch}: {rank_correlation(curves, epoch):.2f}")
    print(f"{'strategy':24} {'epochs':>7} {'best':>7} {'epochs to ' + str(options.target):>16}")
    for name, play in STRATEGIES.items():
        shuffle = random.Random(0)
        traces = [play(shuffle.sample(curves, len(curves))) for _ in range(options.repeats)]
        never = float("inf")
        hits = [
            next((i for i, best in enumerate(trace, 1) if best >= options.target), never)
            for trace in traces
        ]
        print(
            f"{name:24} {mean(map(len, traces)):7.0f} {mean(t[-1] for t in traces):7.4f} "
            f"{median(hits):16.0f}"
        )


if __name__ == "__main__":
    main()
