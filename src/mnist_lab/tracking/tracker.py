"""The seam between the sweep and MLflow: a Protocol, and a null implementation of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mnist_lab.tracking.records import (
    FoundStudy,
    ModelRecord,
    State,
    StudyRecord,
    StudySummary,
    TrialOutcome,
    TrialRecord,
)
from mnist_lab.training import EpochMetrics


class ExperimentDeletedError(Exception):
    """The error of an experiment that was deleted in MLflow; restored, it can be written.

    No ``MnistLabError``: other studies, in other experiments, can be written all the same.
    """

    def __init__(self, name: str, experiment: str, uri: str) -> None:
        self.name = name
        self.restore = f"mlflow experiments restore --experiment-id {experiment}"
        self.uri = uri
        # The command before the address: a table cuts long lines.
        super().__init__(
            f"experiment {name!r} was deleted; type: {self.restore} (with MLFLOW_TRACKING_URI={uri})"
        )


class Tracker(Protocol):
    """The seam to a tracking store, whose methods may be slow, may fail, and may be repeated.

    A repeated call changes nothing.
    """

    def open_study(
        self, study: StudyRecord, figures: Path | None = None, *, running: bool = True
    ) -> str:
        """Find or open the study's run, mark it as ``running``; return its id.

        The run of a confirmation is that of the study which it confirms, and is left as it stands.

        Raises:
            LookupError: that study has no run yet.
            ExperimentDeletedError: its runs cannot be written.
        """

    def find_study(self, study: StudyRecord) -> FoundStudy | None:
        """Return the study's run, if it has one; nothing is written.

        Raises:
            ExperimentDeletedError: its runs cannot be read.
        """

    def find_trials(self, study: StudyRecord, study_run: str) -> Mapping[int, State]:
        """Return the state of every trial that has a run in the tracker, by number."""

    def open_trial(self, study: StudyRecord, study_run: str, trial: TrialRecord) -> str:
        """Find or open the trial's run; return its id."""

    def log_epochs(self, run: str, epochs: tuple[EpochMetrics, ...]) -> None: ...

    def close_trial(self, run: str, outcome: TrialOutcome) -> None: ...

    def log_model(self, run: str, model: ModelRecord) -> str:
        """Log a trial's model; return its id."""

    def close_study(self, run: str, summary: StudySummary) -> None: ...

    def log_report(self, study: StudyRecord, file: Path, summary: StudySummary) -> None:
        """Log the HTML report of a study with its run, if it has one, and describe that anew."""


class NullTracker:
    """A tracker that records nothing: for tests, and to measure the cost of tracking."""

    def open_study(
        self, study: StudyRecord, figures: Path | None = None, *, running: bool = True
    ) -> str:
        return "study"

    def find_study(self, study: StudyRecord) -> FoundStudy | None:
        return None

    def find_trials(self, study: StudyRecord, study_run: str) -> Mapping[int, State]:
        return {}

    def open_trial(self, study: StudyRecord, study_run: str, trial: TrialRecord) -> str:
        return f"trial-{trial.trial}"

    def log_epochs(self, run: str, epochs: tuple[EpochMetrics, ...]) -> None:
        return None

    def close_trial(self, run: str, outcome: TrialOutcome) -> None:
        return None

    def log_model(self, run: str, model: ModelRecord) -> str:
        return f"model-{model.trial}"

    def close_study(self, run: str, summary: StudySummary) -> None:
        return None

    def log_report(self, study: StudyRecord, file: Path, summary: StudySummary) -> None:
        return None
