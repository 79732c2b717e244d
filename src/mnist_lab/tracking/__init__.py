"""The projection of a study into MLflow, behind a small seam."""

from mnist_lab.tracking.tracker import (
    FoundStudy,
    ModelRecord,
    NullTracker,
    SplitFacts,
    State,
    StudyRecord,
    StudySummary,
    Tracker,
    TrialOutcome,
    TrialRecord,
)

__all__ = [
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
]
