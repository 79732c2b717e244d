"""The progress of a sweep after each event, and its result at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from optuna.trial import TrialState

from mnist_lab.publish import Backlog
from mnist_lab.study import Stopped, TrialFacts
from mnist_lab.sweep.actions import News, NewsKind
from mnist_lab.sweep.state import SweepState
from mnist_lab.training import EpochMetrics


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a sweep, as a listener gets it.

    Attributes:
        epochs: of each trial, at most.
        best: number and validation accuracy of the best complete trial.
        running: the newest epoch of each running trial by number, None before its first has ended.
        seconds_left: None while there is nothing to estimate it from.
        news: what happened; None when only time has passed.
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
    news: News | None = None

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


WAITING_SECONDS = 20.0  # workers of this machine have imported TensorFlow by then

Listener = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        stopped: why its ``total`` was not reached, or nothing came of it; None for neither.
        reasons: counts the study's failed trials by reason.
        signal: the exit code that a signal asks for (130, 143), else 0.
        lag: what the tracker has not taken.
    """

    study: str
    total: int
    finished: int
    best: TrialFacts | None
    reasons: dict[str, int]
    stopped: Stopped | None
    signal: int
    lag: Backlog


@dataclass(kw_only=True)
class ProgressReporter:
    """The maker of each ``Progress``, which is given to ``listener``.

    The time left is estimated by epochs where the scheduler expects a number of them, else by trials.
    """

    study: str
    state: SweepState
    listener: Listener
    _began: float = field(default_factory=time.monotonic, init=False)
    _trouble: str = field(default="", init=False)
    _waits_since: float | None = field(default=None, init=False)
    _said_waiting: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._finished_before = self.state.finished
        self._trained_before = self.state.epochs_trained
        self._expected_epochs = self.state.scheduler.expected_epochs()

    def report(self, best: TrialFacts | None, news: News | None = None) -> None:
        state = self.state
        self.listener(
            Progress(
                study=self.study,
                total=state.config.trials,
                epochs=state.config.epochs,
                complete=state.counts[TrialState.COMPLETE],
                pruned=state.counts[TrialState.PRUNED],
                failed=state.counts[TrialState.FAIL],
                best=(best.number, best.value) if best else None,
                running={number: each.newest for number, each in sorted(state.running.items())},
                seconds_left=self._seconds_left(),
                news=news,
            )
        )

    def _seconds_left(self) -> float | None:
        """The time until now, scaled; failed trials are taken to have trained nothing."""
        state, total = self.state, self.state.config.trials
        done, left = state.finished - self._finished_before, total - state.finished
        if self._expected_epochs is not None and left:
            done = state.epochs_trained - self._trained_before
            expected = self._expected_epochs * (1 - state.counts[TrialState.FAIL] / total)
            left = max(left, round(expected) - state.epochs_trained)
        seconds = time.monotonic() - self._began
        return seconds / done * left if done else None

    def on_trouble(self, trouble: str) -> News | None:
        """Return news of a tracker that begins to fail, or to work again; None without a change."""
        before, self._trouble = self._trouble, trouble
        if trouble and not before:
            said = "tracking fails, training goes on, the study keeps everything"
            return News(NewsKind.TRACKING, f"{said}: {trouble}")
        return News(NewsKind.TRACKING, "tracking works again") if before and not trouble else None

    def on_wait(self) -> News | None:
        """Return news of trials that wait for a worker while none trains; once for each wait."""
        trials = self.state.running.values()
        if not trials or any(each.started for each in trials):
            self._waits_since, self._said_waiting = None, False
            return None
        now = time.monotonic()
        self._waits_since = self._waits_since or now
        if self._said_waiting or now - self._waits_since < WAITING_SECONDS:
            return None
        self._said_waiting = True
        executor = self.state.config.executor
        more = (
            "" if executor == "local" else f"; what is free: mnist-lab doctor --executor {executor}"
        )
        count = "1 trial waits" if len(trials) == 1 else f"{len(trials)} trials wait"
        return News(NewsKind.WAITING, f"{count} for a free worker{more}")
