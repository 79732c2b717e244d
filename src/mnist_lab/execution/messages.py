"""What the supervisor and its workers say to each other: frozen, picklable, without any Keras."""

from __future__ import annotations

from dataclasses import dataclass, field

from mnist_lab.spaces.space import Params
from mnist_lab.training import EpochMetrics

# Reasons of failure, as they stand in the ledger and in MLflow's tag ``mnist_lab.reason``.
DIVERGED = "diverged"
OUT_OF_MEMORY = "out_of_memory"
INVALID = "invalid"
CRASHED = "crashed"


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """One training to run.

    ``space`` is a reference that ``load_space`` understands; ``folder`` is where the worker leaves
    the trial's files (``model.keras``, ``figures/``, ``evaluation/``, ``model/``, ``config.json``).
    """

    trial: int
    study: str
    space: str
    space_digest: str
    params: Params
    epochs: int
    seed: int
    folder: str


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A worker has taken the job."""

    trial: int
    worker: int


@dataclass(frozen=True, kw_only=True)
class EpochFinished:
    """Sent after each epoch; the worker waits for ``Executor.decide`` before it goes on."""

    trial: int
    metrics: EpochMetrics


@dataclass(frozen=True, kw_only=True)
class TrialFinished:
    """The training ended, after all its epochs or because it was told to (``stopped``).

    ``scalars`` are the final metrics; the files lie in the job's folder.
    """

    trial: int
    stopped: bool
    best_epoch: int
    scalars: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrialFailed:
    """``reason`` is one of the constants above; ``detail`` is for people."""

    trial: int
    reason: str
    detail: str


Event = TrialStarted | EpochFinished | TrialFinished | TrialFailed
