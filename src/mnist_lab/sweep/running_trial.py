"""A trial that a worker has, and what the ledger has of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import optuna

from mnist_lab.execution import TrialFailed, TrialJob
from mnist_lab.search import SchedulerDecision, TrialSampler
from mnist_lab.study import ledger
from mnist_lab.training import EpochMetrics


@dataclass(kw_only=True)
class RunningTrial:
    """``history`` is what the ledger has; ``retried`` are the reasons of the retries so far.

    ``fruitless`` attempts before this one added no epoch; ``pruned_at`` is the epoch of the pruner's
    decision; ``decision`` says what becomes of the trial when its worker has left it. ``deadline`` is a
    time of ``time.monotonic``; ``failure`` is what was found here while the worker was content;
    ``refused`` says why the trial cannot be begun.
    """

    trial: optuna.Trial
    sampler: TrialSampler
    job: TrialJob
    attempt: int = 1
    fruitless: int = 0
    history: list[EpochMetrics] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    retrained: int = 0
    reported: frozenset[int] = frozenset()
    deadline: float | None = None
    pruned_at: int | None = None
    failure: TrialFailed | None = None
    refused: str = ""
    decision: SchedulerDecision = SchedulerDecision.GO_ON

    @property
    def number(self) -> int:
        return self.job.trial

    @property
    def newest(self) -> EpochMetrics | None:
        return self.history[-1] if self.history else None

    @property
    def overdue(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def set_deadline(self, seconds: float | None) -> None:
        self.deadline = None if seconds is None else time.monotonic() + seconds

    def record(self, epochs: tuple[EpochMetrics, ...]) -> None:
        """Write what the ledger does not have yet: each epoch is recorded once.

        A checkpoint may be one epoch ahead of the ledger, when both were cut off in between; or
        behind it, when the newest was damaged: then epochs are trained again, and the first record
        of each stays, as it does in Optuna and in MLflow.
        """
        known = len(self.history)
        for epoch in epochs[known:]:
            if epoch.epoch not in self.reported:  # cut off between the two, Optuna has it alone
                self.trial.report(epoch.val_accuracy, epoch.epoch)
        self.history += epochs[known:]
        if len(epochs) > known:
            ledger.write_history(self.trial, self.history)
        elif epochs[-1] != self.history[len(epochs) - 1]:
            self.retrained += 1
            ledger.write_retrained(self.trial, self.retrained)

    def should_prune(self, epoch: EpochMetrics) -> bool:
        """What the pruner says, or said before an interruption."""
        newest = epoch.epoch == len(self.history)  # else it is trained again
        if self.pruned_at is None and newest and self.trial.should_prune():
            self.pruned_at = epoch.epoch
            ledger.write_pruned_at(self.trial, epoch.epoch)
        return self.pruned_at is not None and epoch.epoch >= self.pruned_at

    def retry(self, reason: str) -> None:
        """Write that another attempt begins because of ``reason``."""
        self.retried.append(reason)
        self.attempt += 1
        self.deadline = None
        ledger.write_retry(self.trial, self.retried, attempt=self.attempt)
