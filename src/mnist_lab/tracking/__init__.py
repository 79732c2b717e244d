"""The records of studies in MLflow, behind the ``Tracker`` seam."""

from mnist_lab.tracking.records import (
    FoundStudy,
    ModelRecord,
    SplitFacts,
    State,
    StudyRecord,
    StudySummary,
    TrialOutcome,
    TrialRecord,
)
from mnist_lab.tracking.tags import TAG
from mnist_lab.tracking.tracker import ExperimentDeletedError, NullTracker, Tracker
from mnist_lab.tracking.trouble import describe_trouble

__all__ = [
    "TAG",
    "ExperimentDeletedError",
    "FoundStudy",
    "ModelRecord",
    "NullTracker",
    "SplitFacts",
    "State",
    "StudyRecord",
    "StudySummary",
    "Tracker",
    "TrialOutcome",
    "TrialRecord",
    "describe_trouble",
]
