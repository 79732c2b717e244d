"""Artifacts of runs, read back."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


def fetch_artifact(client: MlflowClient, run: str, name: str, folder: Path) -> Path | None:
    """Copy the artifact ``name`` of a run below ``folder``; None if the run or the file is gone."""
    try:
        return Path(client.download_artifacts(run, name, str(folder)))
    except (MlflowException, OSError):
        return None
