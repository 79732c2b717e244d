"""What ``SweepState.handle`` is given beside the workers' events, and what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mnist_lab.execution import Decision, Event, TrialFailed, TrialFinished
from mnist_lab.search import Choice
from mnist_lab.spaces import Question
from mnist_lab.study import Stopped, TrialFacts
from mnist_lab.training import EpochMetrics


class NewsKind(Enum):
    """What a line of news is about."""

    STARTED = "started"
    BUILT = "built"
    EPOCH = "epoch"
    COMPLETE = "complete"
    PAUSED = "paused"
    PRUNED = "pruned"
    FAILED = "failed"
    RETRIED = "retried"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    TRACKING = "tracking"


@dataclass(frozen=True)
class News:
    """One line for a log."""

    kind: NewsKind
    text: str

    def __str__(self) -> str:
        return self.text


# Events of the supervisor's own


@dataclass(frozen=True)
class SweepBegan:
    """The study is open and the workers are starting."""


@dataclass(frozen=True)
class TrialOpened:
    """A trial that ``OpenTrial`` asked for has its parameters and its start is written.

    ``trial`` is as it stood before, ``attempt`` the one that begins. ``refused`` says why no model can
    be made of its parameters.
    """

    trial: TrialFacts
    attempt: int = 1
    refused: str = ""


@dataclass(frozen=True)
class EpochsRecorded:
    """The epochs of ``event`` are written; ``trial`` is as it stands now."""

    trial: TrialFacts
    epoch: EpochMetrics


@dataclass(frozen=True)
class AnswerRefused:
    """A value that was set or queued is none of the parameter's."""

    trial: int
    problem: str


@dataclass(frozen=True)
class TrialOverdue:
    """The trial has run longer than ``--trial-timeout``."""

    trial: int


@dataclass(frozen=True)
class StopRequested:
    """The sweep is to end with the running trials' current epochs."""

    stopped: Stopped


SweepEvent = (
    Event | SweepBegan | TrialOpened | EpochsRecorded | AnswerRefused | TrialOverdue | StopRequested
)


# Actions


@dataclass(frozen=True)
class OpenTrial:
    """Draw a new trial, or begin an attempt at an old one; then handle ``TrialOpened``.

    ``resumed``: an earlier sweep left it in the middle, so it is another attempt.
    """

    choice: Choice
    resumed: bool = False


@dataclass(frozen=True)
class Submit:
    """Give the trial's job to a free worker."""

    trial: int


@dataclass(frozen=True)
class AnswerQuestion:
    """Answer the worker that asks for a parameter; handle ``AnswerRefused`` if that cannot be done."""

    trial: int
    question: Question


@dataclass(frozen=True)
class RecordForm:
    """Write the form of the trial's model, and that all its parameters are known."""

    trial: int
    form: Mapping[str, Any]


@dataclass(frozen=True)
class RecordEpochs:
    """Write the epochs that the study does not have; then handle ``EpochsRecorded``."""

    trial: int
    epochs: tuple[EpochMetrics, ...]


@dataclass(frozen=True)
class Reply:
    """Answer the worker that has finished an epoch."""

    trial: int
    decision: Decision


@dataclass(frozen=True)
class Retry:
    """Write that another attempt begins; ``retried`` are the reasons of all retries so far."""

    trial: int
    retried: tuple[str, ...]
    attempt: int


@dataclass(frozen=True)
class Leave:
    """Write that the trial's worker has left it on purpose. ``paused``: the scheduler wanted it."""

    trial: int
    paused: bool = False


@dataclass(frozen=True)
class Complete:
    """Finish the trial with the worker's result."""

    result: TrialFinished
    value: float


@dataclass(frozen=True)
class Fail:
    """Finish the trial as failed."""

    failed: TrialFailed


@dataclass(frozen=True)
class Prune:
    """Finish the trial as pruned."""

    trial: int


@dataclass(frozen=True)
class Kill:
    """End the trial's worker."""

    why: TrialFailed


@dataclass(frozen=True)
class Publish:
    """Write the trial to the tracker as it stands; ``running``: a worker trains it."""

    trial: int
    running: bool


@dataclass(frozen=True)
class Announce:
    """Report one line of news."""

    news: News


Action = (
    OpenTrial
    | Submit
    | AnswerQuestion
    | RecordForm
    | RecordEpochs
    | Reply
    | Retry
    | Leave
    | Complete
    | Fail
    | Prune
    | Kill
    | Publish
    | Announce
)
