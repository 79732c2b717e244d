"""A study's files while it runs: one folder a trial, gone when the tracker has its content."""

from __future__ import annotations

import shutil
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from mnist_lab.execution.trial import ARTIFACTS, MODEL_FILE


@dataclass(frozen=True)
class TrialFiles:
    """Paths below ``work``, and the moments when they come and go."""

    work: Path

    def folder(self, trial: int) -> Path:
        return self.work / f"trial-{trial:04d}"

    def artifacts(self, trial: int) -> Path:
        return self.folder(trial) / ARTIFACTS

    def model(self, trial: int) -> Path:
        return self.folder(trial) / MODEL_FILE

    def begin(self, trial: int) -> Path:
        """An empty folder for the trial."""
        self.drop(trial)
        self.folder(trial).mkdir(parents=True)
        return self.folder(trial)

    def drop(self, trial: int) -> None:
        shutil.rmtree(self.folder(trial), ignore_errors=True)

    def drop_artifacts(self, trial: int) -> None:
        shutil.rmtree(self.artifacts(trial), ignore_errors=True)

    def keep_only(self, trials: Container[int]) -> None:
        """Delete the folders of all other trials that left a model."""
        for file in self.work.glob(f"trial-*/{MODEL_FILE}"):
            number = int(file.parent.name.removeprefix("trial-"))
            if number not in trials:
                self.drop(number)
