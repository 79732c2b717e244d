"""The supervisor's events for ``SweepState.handle``, and the actions that it returns."""

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
    """The subject of a line of news."""

    STARTED = "started"
    ANEW = "anew"
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
    WAITING = "waiting"


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
    """The event of an open study whose workers are starting."""


@dataclass(frozen=True)
class SlotsChanged:
    """The event of an executor that can run ``count`` trials at once."""

    count: int


@dataclass(frozen=True)
class TrialOpened:
    """The event of an opened trial, whose parameters are known and whose start is written.

    ``trial`` is as it stood before, ``attempt`` the one that begins. ``refused`` says why no model can
    be made of its parameters.
    """

    trial: TrialFacts
    attempt: int = 1
    refused: str = ""


@dataclass(frozen=True)
class EpochsRecorded:
    """The event of written epochs; ``trial`` is as it stands now."""

    trial: TrialFacts
    epoch: EpochMetrics


@dataclass(frozen=True)
class AnswerRefused:
    """The event of a set or queued value that is none of the parameter's."""

    trial: int
    problem: str


@dataclass(frozen=True)
class TrialOverdue:
    """The event of a trial that has run longer than ``--trial-timeout``."""

    trial: int


@dataclass(frozen=True)
class StopRequested:
    """The event that ends the sweep with the running trials' current epochs."""

    stopped: Stopped


SweepEvent = (
    Event
    | SweepBegan
    | SlotsChanged
    | TrialOpened
    | EpochsRecorded
    | AnswerRefused
    | TrialOverdue
    | StopRequested
)


# Actions


@dataclass(frozen=True)
class OpenTrial:
    """The action that draws a new trial, or begins an attempt at an old one.

    ``TrialOpened`` is handled next.

    ``resumed``: an earlier sweep left it in the middle, so it is another attempt.
    """

    choice: Choice
    resumed: bool = False


@dataclass(frozen=True)
class Submit:
    """The action that gives the trial's job to a free worker."""

    trial: int


@dataclass(frozen=True)
class AnswerQuestion:
    """The action that answers a worker's question, or leads to ``AnswerRefused``."""

    trial: int
    question: Question


@dataclass(frozen=True)
class RecordForm:
    """The action that writes the form of the trial's model, and that its parameters are known."""

    trial: int
    form: Mapping[str, Any]


@dataclass(frozen=True)
class RecordEpochs:
    """The action that writes the epochs that the study lacks; ``EpochsRecorded`` is handled next."""

    trial: int
    epochs: tuple[EpochMetrics, ...]


@dataclass(frozen=True)
class Reply:
    """The action that answers the worker that has finished an epoch."""

    trial: int
    decision: Decision


@dataclass(frozen=True)
class Retry:
    """The action that begins another attempt; ``retried`` are the reasons of all retries so far."""

    trial: int
    retried: tuple[str, ...]
    attempt: int


@dataclass(frozen=True)
class Leave:
    """The action that writes that a trial's worker has left it on purpose.

    ``paused``: the scheduler paused it.
    """

    trial: int
    paused: bool = False


@dataclass(frozen=True)
class Complete:
    """The action that finishes the trial with the worker's result."""

    result: TrialFinished
    value: float


@dataclass(frozen=True)
class Fail:
    """The action that finishes the trial as failed."""

    failed: TrialFailed


@dataclass(frozen=True)
class Prune:
    """The action that finishes the trial as pruned."""

    trial: int


@dataclass(frozen=True)
class Kill:
    """The action that ends the trial's worker."""

    why: TrialFailed


@dataclass(frozen=True)
class Publish:
    """The action that writes the trial to the tracker; ``running``: a worker trains it."""

    trial: int
    running: bool


@dataclass(frozen=True)
class Announce:
    """The action that reports one line of news."""

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
