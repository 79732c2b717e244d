"""Report the progress of a sweep after each event, and its result at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.publish import Backlog
from mnist_lab.study import SweepConfig, ledger
from mnist_lab.sweep.running_trial import RunningTrial
from mnist_lab.training import EpochMetrics


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a sweep stands.

    Attributes:
        epochs: of each trial, at most.
        best: number and validation accuracy of the best complete trial.
        running: the newest epoch of each running trial by number, None before its first has ended.
        seconds_left: None while there is nothing to judge by.
        news: one line for a log; empty when nothing happened but time.
    """

    study: str
    total: int
    epochs: int
    complete: int
    pruned: int
    failed: int
    best: tuple[int, float | None] | None
    running: Mapping[int, EpochMetrics | None]
    seconds_left: float | None
    news: str = ""

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """How a sweep ended: ``stopped`` is empty when the ``total`` was reached, else why it was not.

    ``reasons`` counts the study's failed trials by reason; ``signal`` is the exit code that a signal
    asks for (130, 143), else 0. ``lag`` is what the tracker has not taken.
    """

    study: str
    total: int
    finished: int
    best: FrozenTrial | None
    reasons: dict[str, int]
    stopped: str
    signal: int
    lag: Backlog


Listener = Callable[[Progress], None]


@dataclass(kw_only=True)
class ProgressReporter:
    """Makes a ``Progress`` of the state of things.

    ``finished_before`` trials and ``trained_before`` epochs were there at the start. The time left is
    judged by ``expected_epochs``, or by trials where nobody knows how many epochs will be trained.
    """

    config: SweepConfig
    study: optuna.Study
    listener: Listener
    finished_before: int
    trained_before: int
    expected_epochs: int | None
    _began: float = field(default_factory=time.monotonic, init=False)
    _trouble: str = field(default="", init=False)

    def tell(
        self,
        states: Counter[TrialState],
        running: Mapping[int, RunningTrial],
        best: Sequence[FrozenTrial],
        trained: int,
        news: str,
    ) -> None:
        """Tell the listener; ``best`` has the best complete trial, if there is one."""
        finished = sum(states[state] for state in ledger.FINISHED)
        self.listener(
            Progress(
                study=self.study.study_name,
                total=self.config.trials,
                epochs=self.config.epochs,
                complete=states[TrialState.COMPLETE],
                pruned=states[TrialState.PRUNED],
                failed=states[TrialState.FAIL],
                best=next(((each.number, each.value) for each in best), None),
                running={number: each.newest for number, each in sorted(running.items())},
                seconds_left=self._seconds_left(finished, states[TrialState.FAIL], trained),
                news=news,
            )
        )

    def _seconds_left(self, finished: int, failed: int, trained: int) -> float | None:
        """The time until now, scaled; trials that failed are taken to have trained nothing."""
        done, left = finished - self.finished_before, self.config.trials - finished
        if self.expected_epochs is not None and left:
            done = trained - self.trained_before
            expected = self.expected_epochs * (1 - failed / self.config.trials)
            left = max(left, round(expected) - trained)
        seconds = time.monotonic() - self._began
        return seconds / done * left if done else None

    def hear(self, trouble: str) -> str:
        """News of a tracker that has begun to fail, or to work again; empty while nothing changes."""
        before, self._trouble = self._trouble, trouble
        if trouble and not before:
            return f"tracking fails, training goes on, the study keeps everything: {trouble}"
        return "tracking works again" if before and not trouble else ""
