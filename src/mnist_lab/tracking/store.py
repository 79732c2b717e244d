"""The MLflow store itself: found, checked, and made once, before anybody writes to it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from filelock import FileLock

# Before MLflow is imported: it reads this once. Nothing leaves the machine by default.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mnist_lab.errors import ConfigurationError, ServiceError
from mnist_lab.settings import Settings

SCHEMA_TIMEOUT_SECONDS = 120


def open_client(settings: Settings) -> MlflowClient:
    """Return a client of the tracking store, creating the SQLite file's schema if need be.

    MLflow creates the schema by running all its migrations without a lock (3 to 6 s): two processes
    that start at once would race, hence the file lock.

    Raises:
        ConfigurationError: an old file store is in the way, or the schema is of another version.
        ServiceError: the tracking server does not answer.
    """
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    _refuse_file_store(settings)
    uri = settings.tracking_uri
    try:
        if uri.startswith("sqlite:"):
            settings.work.mkdir(parents=True, exist_ok=True)
            with FileLock(settings.work / "mlflow.lock", timeout=SCHEMA_TIMEOUT_SECONDS):
                return _connected(uri)
        return _connected(uri)
    except MlflowException as error:
        if "schema" in str(error):
            raise ConfigurationError(
                f"The MLflow database is of another version: {_first_line(error)}",
                safe="Nothing was written.",
                next_step=f"Copy the file, then type: mlflow db upgrade {uri}",
            ) from error
        raise ServiceError(
            f"The tracking store does not answer: {_first_line(error)}",
            safe="Nothing was written.",
            next_step="Check MLFLOW_TRACKING_URI.",
        ) from error


def artifact_location(settings: Settings, experiment: str) -> str | None:
    """Where a new experiment's artifacts go: below ``mlruns/`` for the SQLite store.

    Absolute, because MLflow would otherwise take the folder that the command was typed in. None for
    a server, which has its own artifact root.
    """
    if not settings.tracking_uri.startswith("sqlite:"):
        return None
    return (settings.artifact_root / experiment.replace("/", "-")).as_uri()


def _connected(uri: str) -> MlflowClient:
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _refuse_file_store(settings: Settings) -> None:
    old = next(settings.artifact_root.glob("[0-9]*/meta.yaml"), None)
    if old is not None and settings.tracking_uri_override is None:
        raise ConfigurationError(
            f"{settings.artifact_root} holds an old MLflow file store ({old}).",
            safe="Nothing was written.",
            next_step="Type: mlflow migrate-filestore --help, or start in another folder.",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


def local_path(uri: str) -> Path | None:
    """The path behind a ``file:`` URI or a bare path; None for anything elsewhere."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri)
