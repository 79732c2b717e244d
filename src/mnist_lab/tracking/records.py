"""The records that a tracker takes and returns: frozen dataclasses, without any MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mnist_lab.config import VAL_ACCURACY
from mnist_lab.data import ImageForm
from mnist_lab.spaces import Params
from mnist_lab.training import EpochMetrics

State = Literal["running", "complete", "pruned", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """The size of a split, and the ``sha256`` of all of it."""

    images: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """The facts that all trials of a study share; other facts make another study.

    Attributes:
        id: drawn when the study is made: a deleted study may leave its name to another.
        family: the space's name without its version, ``cnn``.
        space: its id, ``cnn-v2``; ``reference`` is what ``get_space`` finds it by.
        space_digest: of the space's declaration.
        sources: digest of the space's file and its neighbours; empty for shipped spaces.
        dataset: its name; ``dataset_source`` is what ``load_dataset`` finds it by.
        image_size: the side that pictures were resized to on demand; ``images`` is their form.
        data: the sentence about the data.
        objective: what is optimised; it and ``class_weights`` as ``SweepConfig`` has them.
        splits: of the data set, by context (``train``, ``validation``).
        epochs: of each trial, at most.
        fixed: the parameters of ``--set``, as JSON.
        settings: what stands on the study's page as MLflow's params.
        confirms: the id of the study whose best trials this one trains again, on whose page its runs
            stand; empty for a search.
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
    reference: str = ""
    space_digest: str = ""
    sources: str = ""
    dataset_source: str = ""
    image_size: int | None = None
    images: ImageForm = field(default_factory=ImageForm)
    data: str = ""
    objective: str = VAL_ACCURACY
    class_weights: Literal["none", "balanced"] = "none"
    epochs: int = 0
    fixed: str = "{}"

    @property
    def page(self) -> str:
        """The id of the study on whose page its trials' runs stand."""
        return self.confirms or self.id

    @property
    def level(self) -> str:
        """The level of its trials' runs below that page, ``trial`` or ``confirm``."""
        return "confirm" if self.confirms else "trial"


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """The end of a trial, at Unix time ``ended``.

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
    """The facts of a trial, begun at Unix time ``began``; ``outcome`` is None while it runs.

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
    """A trial's ``.keras`` file to be logged as a model of its run; or an ensemble's, by ``kind``.

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
    images: ImageForm = field(default_factory=ImageForm)
    kind: Literal["trial", "ensemble"] = "trial"


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """The results on a study's page; ``note`` is markdown, ``ended`` Unix time.

    ``shown`` are the parameters that its table and charts show, the most important first. ``links``
    are run ids by the words that link to them. ``champion`` is the version that comes of the study.
    ``curves`` is the range of the objective of the complete trials' curves, but for the worst.
    """

    state: State
    ended: float
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str
    importances: Mapping[str, float]
    shown: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    champion: str = ""
    curves: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    """The run of a study in the tracker; ``state`` is ``running`` until the run is closed."""

    run: str
    state: State
