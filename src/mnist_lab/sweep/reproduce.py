"""``reproduce``: train a trial again from its record, and compare epoch by epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from optuna.trial import TrialState

from mnist_lab.data import shared
from mnist_lab.errors import MnistLabError
from mnist_lab.execution import (
    Answer,
    Decision,
    EpochFinished,
    Executor,
    ExecutorSpec,
    ParameterAsked,
    TrialFailed,
    TrialFinished,
    TrialJob,
    WorkerSpec,
    make_executor,
)
from mnist_lab.settings import Settings
from mnist_lab.spaces import Params, recorded
from mnist_lab.study import Ledger, TrialFacts, load_original_dataset, load_original_space
from mnist_lab.tracking import StudyRecord
from mnist_lab.training import EpochMetrics

Outcome = Literal["bit-exact", "within tolerance", "diverged"]
# Of the best validation accuracy: trainings that differ by their seeds alone are seldom further apart
# (experiments/LOG.md: standard deviations of 0.02 to 0.17 points).
TOLERANCE = 0.003
TICK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """``bit-exact``: every recorded figure of every epoch is the same (seven digits each).

    ``first_difference`` is the first epoch that is not, None if all are. ``recorded`` and ``found``
    are the best validation accuracies. ``environment`` has what is not as it was, as (then, now).
    """

    study: str
    trial: int
    outcome: Outcome
    epochs: int
    first_difference: int | None
    recorded: float
    found: float
    environment: dict[str, tuple[str, str]]


def reproduce(
    study: Ledger,
    trial: TrialFacts,
    settings: Settings,
    *,
    dataset: str | None = None,
    executor: str = "local",
    trainer: str = WorkerSpec.trainer,
) -> Reproduction:
    """Train ``trial`` again in a process of its own, and compare every epoch.

    Space, parameters, seed, data, threads and precision are the same.

    On the CPU; nothing is written but a temporary folder. ``dataset`` says where the study's data lie
    now; they are looked for otherwise.

    Raises:
        MnistLabError: the trial is not complete, or the training fails.
        ConfigurationError, DataError: space or data are not what they were.
    """
    record = study.record
    if trial.state != TrialState.COMPLETE:
        raise MnistLabError(
            f"Trial {trial.number} of {study.name} is not complete.",
            next_step=f"Complete ones: mnist-lab leaderboard {study.name}",
        )
    space = load_original_space(record)
    data = load_original_dataset(record, settings, dataset)
    then = trial.environment
    with tempfile.TemporaryDirectory() as folder, shared(data, Path(folder) / "data") as laid_down:
        spec = ExecutorSpec(
            at_most=1,
            dataset=laid_down,
            work=Path(folder),
            trainer=trainer,
            workers=1,
            device="cpu",
            threads=int(then.get("threads") or "1"),
            precision=then.get("precision", "float32"),  # all that there was before it was recorded
        )
        job = _job(study, trial, record, folder, asks=space.asks)
        epochs, finished = _train(make_executor(executor, spec), job, trial.params)
    return _compare(study, trial, epochs, finished.environment)


def _job(
    study: Ledger, trial: TrialFacts, record: StudyRecord, folder: str, *, asks: bool
) -> TrialJob:
    return TrialJob(
        trial=trial.number,
        study=study.name,
        space=record.reference,
        space_digest=record.space_digest,
        space_sources=record.sources,
        params={} if asks else trial.params,
        epochs=record.epochs,
        seed=trial.seed,
        folder=folder,
        checkpoints=False,
        objective=record.objective,
        class_weights=record.class_weights,
        left_out=trial.left_out,
    )


def _train(
    made: Executor, job: TrialJob, params: Params
) -> tuple[Sequence[EpochMetrics], TrialFinished]:
    epochs: Sequence[EpochMetrics] = ()
    answer = recorded(params)
    with closing(made) as executor:
        executor.start()
        executor.submit(job)
        while True:
            match executor.next_event(TICK_SECONDS):
                case EpochFinished(epochs=epochs):
                    executor.decide(job.trial, Decision.GO_ON)
                case ParameterAsked(question=question):
                    executor.decide(job.trial, Answer(value=answer(question)))
                case TrialFinished() as finished:
                    return epochs, finished
                case TrialFailed(reason=reason, detail=detail):
                    raise MnistLabError(f"Training it again failed: {reason} ({detail}).")


def _compare(
    study: Ledger,
    trial: TrialFacts,
    epochs: Sequence[EpochMetrics],
    environment: dict[str, str],
) -> Reproduction:
    recorded, then = trial.history, trial.environment
    pairs = zip(recorded, epochs, strict=True)
    different = [old.epoch for old, new in pairs if old.metrics() != new.metrics()]
    best, found = (max(each.val_accuracy for each in h) for h in (recorded, epochs))
    close = abs(best - found) <= TOLERANCE
    return Reproduction(
        study=study.name,
        trial=trial.number,
        outcome="bit-exact" if not different else "within tolerance" if close else "diverged",
        epochs=len(recorded),
        first_difference=different[0] if different else None,
        recorded=best,
        found=found,
        environment={
            key: (then.get(key, "unknown"), environment.get(key, "unknown"))
            for key in sorted({*then, *environment})
            if then.get(key) != environment.get(key)
        },
    )
