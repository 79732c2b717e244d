"""``TrialFacts``: one trial as its study has it, parsed once; ``TrialWriter`` writes its facts.

Optuna keeps state, params, intermediate values and times. The rest is in user attributes, whose names
and types are this file's alone. Optuna lets them be written until the trial is finished, not after.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.config import OBJECTIVES, VAL_ACCURACY, is_possible
from mnist_lab.execution import TrialFinished
from mnist_lab.spaces import Params
from mnist_lab.tracking import State, TrialOutcome, TrialRecord
from mnist_lab.training import EpochMetrics, History, ModelForm

_WITHOUT_PROGRESS = "fruitless"  # as studies of all versions have it
MEASURED = "measured"  # what a model has that is beyond a limit, by name
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
STATES: Mapping[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "interrupted",
}


@dataclass(frozen=True, kw_only=True)
class TrialFacts:
    """One trial, parsed by ``read``.

    Attributes:
        value: best validation accuracy in [0, 1]; None until the trial is complete.
        began, ended: Unix times; of an unfinished trial ``ended`` is that of its last epoch.
        attempt: how often it was begun; 0 for a trial that waits, or was interrupted while it drew.
        attempts_without_progress: in a row, the last included, that nothing stopped on purpose.
        reported: the epochs whose accuracy Optuna has.
        retried: the reasons of its retries; ``retrained`` counts epochs that were trained twice.
        scalars: the final metrics; of a trial that was not evaluated those of its epochs.
        environment: versions, threads and device of a complete trial.
        form: a ``ModelForm`` as data; None for a model of a shipped space.
        queued: the values that it was queued with; empty for a drawn trial. Parameters without a
            queued value get their defaults if ``takes_defaults``, else they are drawn.
        planned_seed: the seed it was queued with; None if its number decides.
        replica_of: the trial of the confirmed study that it trains again.
        left_out: the part of the public images that it is not trained on, 0 to 5; ``round`` counts the
            trainings of a trial without it, from 1; ``predicted`` are the classes that it gives these
            images, packed. None for replicas of earlier versions.
        audited_at: the epoch after which it would have been pruned, and was trained on.
        pruned_at: the epoch after which the pruner decided to prune it.
        is_managed: mnist-lab wrote it, or has yet to train it; others came by ``add_trial``.
        is_foreign_run: another program asked for it and trains it now.
    """

    number: int
    state: TrialState
    params: Params
    distributions: Mapping[str, BaseDistribution]
    value: float | None
    began: float
    ended: float
    seed: int
    attempt: int
    attempts_without_progress: int
    history: tuple[EpochMetrics, ...]
    reported: frozenset[int]
    retried: tuple[str, ...]
    retrained: int
    scalars: Mapping[str, float]
    environment: Mapping[str, str]
    reason: str
    detail: str
    form: Mapping[str, Any] | None
    queued: Params
    baseline: bool
    takes_defaults: bool
    planned_seed: int | None
    replica_of: int | None
    left_out: int | None
    round: int
    predicted: str
    audited_at: int | None
    pruned_at: int | None
    is_managed: bool
    is_foreign_run: bool

    @classmethod
    def read(cls, trial: FrozenTrial) -> TrialFacts:
        """Parse a trial as Optuna has it, of this or an earlier version of mnist-lab."""
        attrs = trial.user_attrs
        start = attrs.get("start", {"seed": 0, "attempt": 0, _WITHOUT_PROGRESS: 0, "epochs": -1})
        history = tuple(EpochMetrics(**epoch) for epoch in attrs.get("history", ()))
        scalars = attrs.get("scalars")
        if scalars is None:
            scalars = History(epochs=history).scalars() if history else {}
        progressed = len(history) != start["epochs"]
        began = trial.datetime_start.timestamp() if trial.datetime_start else time.time()
        ended = history[-1].timestamp if history else began
        return cls(
            number=trial.number,
            state=trial.state,
            params=trial.params,
            distributions=trial.distributions,
            value=trial.value,
            began=began,
            ended=trial.datetime_complete.timestamp() if trial.datetime_complete else ended,
            seed=int(start["seed"]),
            attempt=int(start["attempt"]),
            attempts_without_progress=0 if progressed else int(start[_WITHOUT_PROGRESS]) + 1,
            history=history,
            reported=frozenset(trial.intermediate_values),
            retried=tuple(attrs.get("retried", ())),
            retrained=int(attrs.get("retrained", 0)),
            scalars=scalars,
            environment=attrs.get("environment", {}),
            reason=str(attrs.get("reason", "")),
            detail=str(attrs.get("detail", "")),
            form=attrs.get("form"),
            queued=trial.system_attrs.get("fixed_params", {}),
            baseline=bool(attrs.get("baseline")),
            takes_defaults=bool(attrs.get("defaults")),
            planned_seed=attrs.get("planned_seed"),
            replica_of=attrs.get("replica_of"),
            left_out=attrs.get("left_out"),
            round=int(attrs.get("round", 1)),
            predicted=str(attrs.get("predicted", "")),
            audited_at=attrs.get("audited_at"),
            pruned_at=attrs.get("pruned_at"),
            is_managed=is_managed(trial),
            # mnist-lab writes parameters with the trial's start: a trial interrupted while it drew
            # has none.
            is_foreign_run=(
                trial.state == TrialState.RUNNING and "start" not in attrs and bool(trial.params)
            ),
        )

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    @property
    def is_begun(self) -> bool:
        """Whether an attempt at the trial was made."""
        return self.state != TrialState.WAITING and self.attempt > 0

    @property
    def is_built(self) -> bool:
        """Whether a trial of a space that asks has been asked for all its parameters."""
        return self.form is not None

    @property
    def objective(self) -> str:
        """What the trial is judged by; its epochs say so."""
        return self.history[-1].objective if self.history else VAL_ACCURACY

    @property
    def score(self) -> float:
        """``value`` with the sign by which more is better; of a trial without value the least."""
        if self.value is None:
            return -math.inf
        return self.value if OBJECTIVES[self.objective] else -self.value

    @property
    def is_possible(self) -> bool:
        """Whether ``value`` is one that the objective can have."""
        return is_possible(self.objective, self.value)

    @property
    def val_accuracy(self) -> float:
        """The validation accuracy of the best epoch; 0 for a trial without."""
        return float(self.scalars.get("best_val_accuracy", self.value or 0.0))

    @property
    def best_epoch(self) -> int:
        return int(self.scalars.get("best_epoch", 0))

    @property
    def rank_key(self) -> tuple[float, int]:
        """The sort key of ``Ledger.ranked``: best first; of equals, the earlier."""
        return -self.score, self.number

    def record(self, *, running: bool = False) -> TrialRecord:
        """Make the tracker's record of the trial, without its files.

        ``running`` says that a supervisor trains it; else an unfinished trial is interrupted.
        """
        outcome = TrialOutcome(
            state=STATES.get(self.state, "interrupted"),
            ended=self.ended,
            reason=self.reason,
            detail=self.detail,
            scalars=self.scalars,
            best_epoch=self.best_epoch,
        )
        return TrialRecord(
            trial=self.number,
            attempt=self.attempt,
            params=self.params,
            seed=self.seed,
            baseline=self.baseline,
            began=self.began,
            retrained=self.retrained,
            replica_of=self.replica_of,
            form=ModelForm.from_dict(self.form).facts() if self.form else {},
            epochs=self.history,
            outcome=None if running else outcome,
        )


def is_managed(trial: FrozenTrial) -> bool:
    """Return whether mnist-lab wrote the trial, without parsing the rest of it."""
    written = {"start", "history", "scalars"} & set(trial.user_attrs)
    return trial.state not in FINISHED or bool(written)


class TrialWriter:
    """The writer of one unfinished trial's facts. When a method returns, the database has them."""

    def __init__(self, storage: BaseStorage, trial_id: int) -> None:
        self._storage = storage
        self._id = trial_id

    def start(
        self, *, seed: int, attempt: int, attempts_without_progress: int = 0, epochs: int = 0
    ) -> None:
        """Write that an attempt begins; ``epochs`` are those trained before."""
        self._set(
            "start",
            {
                "seed": seed,
                "attempt": attempt,
                _WITHOUT_PROGRESS: attempts_without_progress,
                "epochs": epochs,
            },
        )

    def left(self) -> None:
        """Write that the attempt was stopped on purpose: it is not one without progress."""
        self._set("start", {**self._start(), _WITHOUT_PROGRESS: 0, "epochs": -1})

    def form(self, form: Mapping[str, Any]) -> None:
        """Write how the trial's model takes images and labels (a ``ModelForm`` as data)."""
        self._set("form", dict(form))

    def audited_at(self, epoch: int) -> None:
        """Write that the trial would be pruned after ``epoch``, and is trained on as an audit."""
        self._set("audited_at", epoch)

    def pruned_at(self, epoch: int) -> None:
        """Write the pruner's decision: asked again after a crash, it might decide otherwise."""
        self._set("pruned_at", epoch)

    def epochs(self, known: TrialFacts, epochs: Sequence[EpochMetrics]) -> None:
        """Write the epochs that ``known``, the trial until now, does not have.

        A checkpoint may be one epoch ahead of the study, if both were interrupted in between. It may
        be behind it, if the newest was damaged: then epochs are trained again, and the first record of
        each stays, as it does in Optuna and in MLflow.
        """
        new = tuple(epochs)[len(known.history) :]
        for epoch in new:
            if epoch.epoch not in known.reported:  # else interrupted before the history was written
                self._storage.set_trial_intermediate_value(self._id, epoch.epoch, epoch.value)
        if new:
            self._set("history", [asdict(epoch) for epoch in (*known.history, *new)])
        elif epochs[-1] != known.history[len(epochs) - 1]:
            self._set("retrained", known.retrained + 1)

    def retry(self, retried: Sequence[str], *, attempt: int) -> None:
        """Write the reasons of all retries, and the number of the attempt that begins."""
        self._set("retried", [str(reason) for reason in retried])
        self._set("start", {**self._start(), "attempt": attempt})

    def result(self, event: TrialFinished) -> None:
        self._set("scalars", event.scalars)
        self._set("environment", event.environment)
        if event.predicted:
            self._set("predicted", event.predicted)

    def failure(
        self, reason: str, detail: str, measured: Mapping[str, float] | None = None
    ) -> None:
        """Write why the trial failed; ``measured`` is what was held against the limits, by name."""
        self._set("reason", str(reason))
        self._set("detail", detail)
        if measured:
            self._set(MEASURED, dict(measured))

    def _start(self) -> dict[str, int]:
        return dict(self._storage.get_trial(self._id).user_attrs["start"])

    def _set(self, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._id, key, value)
