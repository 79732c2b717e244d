"""Who meets whom: a study's confirmed choice, and the best champion so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from mnist_lab.data import Dataset
from mnist_lab.data.sealed import SealedSplit
from mnist_lab.errors import DataError, MnistLabError, UnknownNameError
from mnist_lab.models import ENSEMBLE, MISSING, ModelFile, find_version_model, verify_version
from mnist_lab.promotion.contender import Contender
from mnist_lab.promotion.gate import Costs, GatePolicy
from mnist_lab.settings import Settings
from mnist_lab.study import (
    Confirmation,
    Design,
    Replica,
    StudyLock,
    load_original_space,
    open_study,
    read_confirmation,
)
from mnist_lab.tracking import TAG, StudyRecord
from mnist_lab.tracking.runs import experiment_name, find_runs

# Trains replicas of a study on the data at a path; when it returns, each has finished, and MLflow has
# its model.
Train = Callable[[str, Sequence[Replica], str], None]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a study offers: its confirmed choice."""

    record: StudyRecord
    confirmation: Confirmation
    contender: Contender

    @property
    def name(self) -> str:
        return model_name(self.record)


@dataclass(frozen=True, kw_only=True)
class Opponent:
    """The version that a challenger is compared with: the best champion so far.

    ``contender`` is None where its study is gone or cannot be trained again: then its ``model`` file
    alone is compared, on the sealed images. ``members`` are how many trainings that is the mean of.
    ``costs`` are those of the champion in use, which may be a smaller one; None if not known.
    """

    version: int
    model: ModelFile
    contender: Contender | None
    members: int
    costs: Costs | None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All that a challenge needs: who, against whom, on which images, and a way to train."""

    client: MlflowClient
    settings: Settings
    candidate: Candidate
    opponent: Opponent | None
    data: Dataset
    labels: Mapping[int, NDArray[np.uint8]]  # of the public parts
    sealed: SealedSplit
    policy: GatePolicy
    train: Train
    lock: StudyLock

    @property
    def purpose(self) -> str:
        """What the sealed images are opened for; a changed policy is no other purpose."""
        against = "first" if self.opponent is None else str(self.opponent.version)
        mine = self.candidate.contender
        ensemble = "" if mine.members == 1 else f".ensemble-{mine.members}"
        return f"{self.candidate.record.id[:16]}.{mine.trial}.{against}{ensemble}"


def model_name(record: StudyRecord) -> str:
    """Return the name of the registered model for a study's choice, as MLflow accepts it."""
    return re.sub(r"[/:@'\"`]", "-", f"{record.dataset}-{record.family}")


def find_candidate(settings: Settings, name: str, design: Design, members: int) -> Candidate:
    """Find what study ``name`` offers: one training of its choice, or an ensemble of ``members``.

    Raises:
        MnistLabError: it is not confirmed by ``design``.
    """
    study = open_study(settings, name)
    confirmation = read_confirmation(study, design)
    if confirmation is None:
        raise MnistLabError(
            f"Study {name!r} is not confirmed.",
            safe="Nothing was registered.",
            next_step=f"Type: mnist-lab confirm {name} --top {design.top}",
        )
    return Candidate(
        record=study.record,
        confirmation=confirmation,
        contender=Contender(search=study, trial=confirmation.chosen, members=members),
    )


def is_of(version: ModelVersion, candidate: Candidate) -> bool:
    """Return whether a version was made of the candidate's trial, with as many members."""
    mine = candidate.contender
    trial = version.tags.get(f"{TAG}trial")
    is_same = trial == str(mine.trial) and _members(version) == mine.members
    return is_same and _is_of_study(version, candidate.record)


def _members(version: ModelVersion) -> int:
    return int(version.tags.get(ENSEMBLE, 1))


def _is_of_study(version: ModelVersion, record: StudyRecord) -> bool:
    """Return whether a version comes from a study; the first versions have only its name."""
    found = version.tags.get(f"{TAG}study"), version.tags.get(f"{TAG}study_id", record.id)
    return found == (record.name, record.id)


def find_opponent(
    client: MlflowClient,
    champion: ModelVersion | None,
    candidate: Candidate,
    settings: Settings,
    *,
    force: bool,
) -> Opponent | None:
    """Find the best champion so far; by force None for one that cannot be compared."""
    if champion is None:
        return None
    version = _find_best(client, champion)
    if version.tags.get(f"{TAG}dataset_digest") not in (None, candidate.record.dataset_digest):
        return None
    try:
        verify_version(client, version, settings)
    except DataError as error:
        if force:
            return None
        error.next_step = (
            "Bring the champion's file back from a copy, or promote without comparing: "
            f"mnist-lab promote {candidate.contender.study} --force"
        )
        raise
    best = in_use = _find_contender(client, champion, candidate.record, settings)
    if version.version != champion.version:
        best = _find_contender(client, version, candidate.record, settings)
    return Opponent(
        version=int(version.version),
        model=find_version_model(client, version),
        contender=best,
        members=_members(version),
        costs=None if in_use is None else in_use.costs(),
    )


def _find_best(client: MlflowClient, champion: ModelVersion) -> ModelVersion:
    """Find the best champion so far; the champion itself if that was deleted."""
    best = champion.tags.get(f"{TAG}best_champion", str(champion.version))
    try:
        return client.get_model_version(champion.name, best)
    except MlflowException as error:
        if error.error_code in MISSING:
            return champion
        raise


def _find_contender(
    client: MlflowClient, version: ModelVersion, record: StudyRecord, settings: Settings
) -> Contender | None:
    """The trial of a version, in its study; None where that is gone, or was made anew since."""
    name, trial = version.tags.get(f"{TAG}study", ""), version.tags.get(f"{TAG}trial", "")
    try:
        study = open_study(settings, name)
    except UnknownNameError:
        return None
    is_same = study.is_managed and _is_of_study(version, study.record)
    if not is_same or not trial.isdigit() or study.record.dataset_digest != record.dataset_digest:
        return None
    try:
        load_original_space(study.record)
    except MnistLabError:  # changed, or gone: it cannot be trained again
        return None
    if not has_page(client, study.record):  # deleted: MLflow cannot take its replicas
        return None
    return Contender(search=study, trial=int(trial), members=_members(version))


def has_page(client: MlflowClient, record: StudyRecord) -> bool:
    """Return whether the page of a study is there; MLflow cannot take its runs without."""
    experiment = client.get_experiment_by_name(experiment_name(record.dataset, record.family))
    if experiment is None or experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        return False
    pages = f"tags.`{TAG}study_id` = '{record.page}' AND tags.`{TAG}level` = 'study'"
    return bool(find_runs(client, [experiment.experiment_id], pages))


def require_same_data(champion: ModelVersion | None, record: StudyRecord, *, force: bool) -> None:
    """Raise ``MnistLabError`` for a champion of other images, unless by force."""
    theirs = champion.tags.get(f"{TAG}dataset_digest") if champion is not None else None
    if theirs not in (None, record.dataset_digest) and not force:
        raise MnistLabError(
            "The champion was validated on other images: the two accuracies cannot be compared.",
            safe="Nothing was registered.",
            next_step="To promote this one all the same: --force",
        )
