"""The messages between the supervisor and its workers: frozen, picklable, without any Keras."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum, StrEnum
from typing import Any

from mnist_lab.config import VAL_ACCURACY
from mnist_lab.spaces import Params, ParamValue, Question
from mnist_lab.training import EpochMetrics


class FailureReason(StrEnum):
    """Why a trial failed, as the ledger and MLflow's tag ``mnist_lab.reason`` have it.

    ``search/retries.py`` says what follows from each.
    """

    DIVERGED = "diverged"  # the loss is not finite
    INVALID = "invalid"  # no model can be made of the parameters, or it reports the impossible
    INFEASIBLE = "infeasible"  # its model is beyond a --limit; nothing was trained
    ERROR = "error"  # the trainer raised an exception
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"  # longer than --trial-timeout
    CRASHED = "crashed"  # the worker process died
    NODE_LOST = "node_lost"  # the machine of the worker died, or cannot be reached
    DISK_FULL = "disk_full"
    DISK_ERROR = "disk_error"  # it cannot be written for another reason

    @property
    def belongs_to_point(self) -> bool:
        """Whether the parameters are the cause, so that others like them would fail, too."""
        return self in (self.DIVERGED, self.INVALID, self.INFEASIBLE, self.OUT_OF_MEMORY)


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """One training to begin, or to resume.

    ``study_id`` is the study's own: another of the same name is another study. ``space`` is a
    reference that ``load_space`` understands; ``folder`` is where the worker leaves
    the trial's files (``artifacts/``, ``model.keras``) and its ``checkpoints/``. ``params`` are empty
    for a space that asks: the worker asks for each. ``space_sources`` is the digest of the space's
    file and its neighbours, empty for a space without one; ``form`` is what an earlier attempt found
    out of the model. A job of no ``epochs`` builds the model,
    looks at it with one batch, and trains nothing. With ``keep_predictions`` its artifacts hold what it
    answers for each validation image. A model beyond one of the ``limits`` (by name, as
    ``config.parse_limits`` gives them) is not trained. ``left_out`` is the part of the public images
    that validates instead of the validation part (``data.leave_out``); then the last epoch's weights
    are kept, and the predicted classes are reported.
    """

    trial: int
    study: str
    study_id: str = ""
    space: str
    space_digest: str
    params: Params
    epochs: int
    seed: int
    folder: str
    checkpoints: bool = True
    space_sources: str = ""
    form: Mapping[str, Any] | None = None
    objective: str = VAL_ACCURACY
    class_weights: str = "none"
    keep_predictions: bool = True
    limits: Mapping[str, float] = field(default_factory=dict)
    left_out: int | None = None

    @property
    def identity(self) -> str:
        """A digest of study, trial, parameters and seed, by which checkpoints are recognised."""
        facts = asdict(self)
        for name in (
            "space",
            "folder",
            "checkpoints",
            "space_sources",
            "form",
            "keep_predictions",
            "limits",
        ):
            del facts[name]
        for name in (
            "objective",
            "class_weights",
            "left_out",
        ):  # checkpoints of earlier versions lack them
            if facts[name] == getattr(TrialJob, name):
                del facts[name]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Decision(Enum):
    """The answer to ``EpochFinished``; a training that is paused is left to its checkpoint.

    ``PAUSE`` is also the answer to ``ParameterAsked`` when the trial is to be left.
    """

    GO_ON = "go on"
    PAUSE = "pause"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to ``ParameterAsked``."""

    value: ParamValue


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """The event of a worker that has taken the job."""

    trial: int
    worker: int


@dataclass(frozen=True, kw_only=True)
class ParameterAsked:
    """The event of model code that asks for a parameter; the worker waits for ``Executor.decide``."""

    trial: int
    question: Question


@dataclass(frozen=True, kw_only=True)
class TrialBuilt:
    """The event of a model built and tried with one batch: all its parameters are known.

    ``form`` is a ``ModelForm`` as data: how it takes images and labels, and what it gives.
    """

    trial: int
    form: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class EpochFinished:
    """The event of an epoch's end, or of a loaded checkpoint.

    The worker waits for ``Executor.decide``. ``epochs`` are all so far, so that no message is needed
    twice.
    """

    trial: int
    epochs: tuple[EpochMetrics, ...]


@dataclass(frozen=True, kw_only=True)
class TrialFinished:
    """The event of a training's end after all its epochs.

    ``scalars`` are the final metrics; ``environment`` what else the result may depend on (versions,
    threads, device), as text; the files lie in the job's folder. ``predicted`` are the classes of the
    images that the job left out, packed by ``evaluation.pack_classes``.
    """

    trial: int
    best_epoch: int
    scalars: dict[str, float] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    predicted: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialPaused:
    """The event of a training left after an epoch; its checkpoint has it all."""

    trial: int


@dataclass(frozen=True, kw_only=True)
class TrialFailed:
    """The event of a trial's failure; ``detail`` says the reason in words.

    ``measured`` has what was measured against the limits, of a model that is beyond one.
    """

    trial: int
    reason: FailureReason
    detail: str
    measured: Mapping[str, float] = field(default_factory=dict)


Reply = Decision | Answer
Event = (
    TrialStarted
    | ParameterAsked
    | TrialBuilt
    | EpochFinished
    | TrialFinished
    | TrialPaused
    | TrialFailed
)
