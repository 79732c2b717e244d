"""A study's files while it runs: one folder a trial, gone when the tracker has its content."""

from __future__ import annotations

import shutil
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mnist_lab.execution.trial import ARTIFACTS, CHECKPOINTS, MODEL_FILE


@dataclass(frozen=True)
class TrialFiles:
    """Paths below ``work``, and the moments when they come and go.

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

    @property
    def dataset_figures(self) -> Path:
        return self.work / "dataset"

    def begin(self, trial: int) -> Path:
        """The trial's folder, empty but for checkpoints to go on from."""
        self.folder(trial).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.artifacts(trial), ignore_errors=True)
        self.model(trial).unlink(missing_ok=True)
        return self.folder(trial)

    def numbers(self) -> list[int]:
        """The trials that have a folder."""
        return sorted(int(each.name.removeprefix("trial-")) for each in self.work.glob("trial-*"))

    def drop_artifacts(self, trial: int) -> None:
        """The tracker has them."""
        shutil.rmtree(self.artifacts(trial), ignore_errors=True)
        self._drop_empty(trial)

    def drop_model(self, trial: int) -> None:
        """The model is logged, or will not be: neither it nor what it was trained from is needed."""
        self.model(trial).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints(trial), ignore_errors=True)
        self._drop_empty(trial)

    def keep_models(self, trials: Container[int]) -> None:
        """Drop the models of all other trials that left one."""
        for file in self.work.glob(f"trial-*/{MODEL_FILE}"):
            number = int(file.parent.name.removeprefix("trial-"))
            if number not in trials:
                self.drop_model(number)

    def _drop_empty(self, trial: int) -> None:
        with suppress(OSError):  # not empty: something is still needed
            self.folder(trial).rmdir()
