"""The seam between the sweep and MLflow: what is told, and a null implementation of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mnist_lab.spaces import Params
from mnist_lab.training import EpochMetrics

State = Literal["running", "complete", "pruned", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """``sha256`` is of the whole split."""

    images: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """What stands on a study's page before its first trial.

    ``id`` is the study's own: a study that was deleted may leave its name to another. ``splits`` are
    of the data set, by context (``train``, ``validation``). ``confirms`` is the id of the study whose
    best trials this one trains again: its trials are runs under the page of that one.
    """

    id: str
    name: str
    family: str
    space: str
    dataset: str
    dataset_digest: str
    splits: Mapping[str, SplitFacts]
    settings: Mapping[str, str]
    confirms: str = ""

    @property
    def page(self) -> str:
        """The id of the study on whose page its trials' runs stand."""
        return self.confirms or self.id

    @property
    def level(self) -> str:
        """What its trials' runs are, below that page."""
        return "confirm" if self.confirms else "trial"


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """How a trial ended, at Unix time ``ended``.

    ``artifacts`` is a folder whose content becomes the run's artifacts.
    """

    state: State
    ended: float
    reason: str = ""
    detail: str = ""
    scalars: Mapping[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    artifacts: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """All that is known of a trial, begun at Unix time ``began``; ``outcome`` is None while it runs.

    ``attempt`` counts from 1 how often it was begun; ``retrained`` how many epochs were trained twice
    because a checkpoint was lost. ``replica_of`` is the trial that it trains again, if it does.
    ``form`` says how a model of another author's space takes images and labels, as text by name.
    """

    trial: int
    attempt: int
    params: Params
    seed: int
    baseline: bool
    began: float
    retrained: int = 0
    replica_of: int | None = None
    form: Mapping[str, str] = field(default_factory=dict)
    epochs: tuple[EpochMetrics, ...] = ()
    outcome: TrialOutcome | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A trial's ``.keras`` file to be logged as a model of its run.

    ``blueprint`` is what it can be built of again, as JSON; empty if that is not known.
    """

    study: str
    trial: int
    file: Path
    ended: float
    best_epoch: int
    scalars: Mapping[str, float]
    params: Params
    blueprint: str = ""


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """What stands on a study's page afterwards; ``note`` is markdown, ``ended`` Unix time."""

    state: State
    ended: float
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str
    importances: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    """``state`` is "running" as long as nobody has closed the run."""

    run: str
    state: State


class ExperimentDeletedError(Exception):
    """Somebody deleted the experiment in MLflow: runs can be written when it is restored.

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
    """Every method may be slow or fail, and may be repeated: the second time changes nothing."""

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
        """The study's run, if it has one; writes nothing.

        Raises:
            ExperimentDeletedError: its runs cannot be read.
        """

    def find_trials(self, study: StudyRecord, study_run: str) -> Mapping[int, State]:
        """The state of every trial that has a run, by number, as far as the tracker knows."""

    def open_trial(self, study: StudyRecord, study_run: str, trial: TrialRecord) -> str:
        """Find or open the trial's run; return its id."""

    def log_epochs(self, run: str, epochs: tuple[EpochMetrics, ...]) -> None: ...

    def close_trial(self, run: str, outcome: TrialOutcome) -> None: ...

    def log_model(self, run: str, model: ModelRecord) -> str:
        """Log a trial's model; return its id."""

    def close_study(self, run: str, summary: StudySummary) -> None: ...


class NullTracker:
    """Tracks nothing: for tests, and to measure what tracking costs."""

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
