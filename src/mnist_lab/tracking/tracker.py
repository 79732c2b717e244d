"""The seam between the sweep and MLflow: what is told, and a null implementation of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mnist_lab.data import Dataset
from mnist_lab.spaces.space import Params
from mnist_lab.training import EpochMetrics

State = Literal["complete", "pruned", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """What stands on a study's page before its first trial. ``figures`` are of the data set."""

    name: str
    family: str
    space: str
    dataset: Dataset
    settings: Mapping[str, str]
    figures: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """``attempt`` counts from 1; a trial that was interrupted gets another run."""

    study: StudyRecord
    parent_run: str
    trial: int
    attempt: int
    params: Params
    seed: int
    baseline: bool


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """How a trial ended. ``artifacts`` is a folder whose content becomes the run's artifacts."""

    state: State
    reason: str = ""
    detail: str = ""
    scalars: Mapping[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    artifacts: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A trial's ``.keras`` file to be logged as a model of its run."""

    study: str
    trial: int
    file: Path
    best_epoch: int
    scalars: Mapping[str, float]
    params: Params


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """What stands on a study's page afterwards; ``note`` is markdown."""

    state: State
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str
    importances: Mapping[str, float]


class Tracker(Protocol):
    """Every method may be slow and none may change what is trained."""

    def open_study(self, study: StudyRecord, run: str | None) -> str:
        """Open the parent run, or ``run`` again; return its id."""

    def open_runs(self, study_run: str) -> frozenset[str]:
        """The child runs that are still marked as running."""

    def open_trial(self, trial: TrialRecord) -> str:
        """Open a child run; return its id."""

    def log_epoch(self, run: str, metrics: EpochMetrics) -> None: ...

    def close_trial(self, run: str, outcome: TrialOutcome) -> None: ...

    def log_model(self, run: str, model: ModelRecord) -> str:
        """Log a trial's model; return its id."""

    def close_study(self, run: str, summary: StudySummary) -> None: ...


class NullTracker:
    """Tracks nothing: for tests, and to measure what tracking costs."""

    def open_study(self, study: StudyRecord, run: str | None) -> str:
        return run or "study"

    def open_runs(self, study_run: str) -> frozenset[str]:
        return frozenset()

    def open_trial(self, trial: TrialRecord) -> str:
        return f"trial-{trial.trial}"

    def log_epoch(self, run: str, metrics: EpochMetrics) -> None:
        return None

    def close_trial(self, run: str, outcome: TrialOutcome) -> None:
        return None

    def log_model(self, run: str, model: ModelRecord) -> str:
        return f"model-{model.trial}"

    def close_study(self, run: str, summary: StudySummary) -> None:
        return None
