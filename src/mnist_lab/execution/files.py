"""The paths of a trial: its checkpoints, artifacts and model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrialFiles:
    """The paths of a study's trials below ``work``, and their creation and removal.

    A trial's folder holds its checkpoints while it trains, its artifacts until the tracker has them,
    and its model while it is among the best.
    """

    work: Path

    def folder(self, trial: int) -> Path:
        return self.work / f"trial-{trial:04d}"

    def artifacts(self, trial: int) -> Path:
        return self.folder(trial) / ARTIFACTS

    def model(self, trial: int) -> Path:
        return self.folder(trial) / MODEL_FILE

    def checkpoints(self, trial: int) -> Path:
        return self.folder(trial) / CHECKPOINTS

    def has_checkpoints(self, trial: int) -> bool:
        return any(self.checkpoints(trial).glob("epoch-*"))

    @property
    def dataset_figures(self) -> Path:
        return self.work / "dataset"

    @property
    def shared_data(self) -> Path:
        """The folder of the data set that the workers of a running sweep map."""
        return self.work / "data"

    @property
    def owner(self) -> str:
        """The id of the study whose files these are; empty before ``adopt``."""
        return self._owner.read_text() if self._owner.exists() else ""

    def adopt(self, study: str) -> None:
        """Assign the folder to the study of this id; another study's folder is renamed.

        That study may have been deleted, or lie in another storage and come back for its checkpoints.
        """
        if self.owner not in ("", study):
            self.work.rename(self._aside(self.owner))
        if self._aside(study).exists() and not self.work.exists():
            self._aside(study).rename(self.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self._owner.write_text(study)

    def _aside(self, study: str) -> Path:
        return self.work.with_name(f"{self.work.name}.{study[:8]}")

    @property
    def _owner(self) -> Path:
        return self.work / "study-id"

    def begin(self, trial: int) -> Path:
        """Make the trial's folder, empty but for checkpoints to go on from; return it."""
        self.folder(trial).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.artifacts(trial), ignore_errors=True)
        self.model(trial).unlink(missing_ok=True)
        return self.folder(trial)

    def numbers(self) -> list[int]:
        """List the trials that have a folder."""
        names = (re.fullmatch(r"trial-(\d{4,})", each.name) for each in self.work.glob("trial-*"))
        return sorted(int(name[1]) for name in names if name)

    def drop_artifacts(self, trial: int) -> None:
        """Delete a trial's artifacts, which the tracker has, with figures or without."""
        shutil.rmtree(self.artifacts(trial), ignore_errors=True)
        (self.folder(trial) / PREDICTIONS).unlink(missing_ok=True)
        self._drop_empty(trial)

    def drop_model(self, trial: int) -> None:
        """Delete a trial's model and checkpoints, when the model is logged or will not be."""
        self.model(trial).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints(trial), ignore_errors=True)
        self._drop_empty(trial)

    def keep_models(self, trials: Container[int]) -> None:
        """Delete the models of all trials but ``trials``."""
        for number in self.numbers():
            if number not in trials and self.model(number).exists():
                self.drop_model(number)

    def _drop_empty(self, trial: int) -> None:
        with suppress(OSError):  # not empty: something is still needed
            self.folder(trial).rmdir()


MODEL_FILE = "model.keras"
ARTIFACTS = "artifacts"  # the folder whose content becomes the artifacts of the trial's run
CHECKPOINTS = "checkpoints"
KEPT_PREDICTIONS = "evaluation/predictions.npz"  # within the artifacts
PREDICTIONS = "predictions.npz"  # the data of the figures, until they are drawn
