"""``serve``: a registered model behind MLflow's own scoring server, made of the checked file only."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from mlflow import MlflowClient

from mnist_lab.registry.models import fetch_version, find_trial_model, find_version
from mnist_lab.settings import Settings
from mnist_lab.tracking.package import package_model


def prepare(client: MlflowClient, reference: str, settings: Settings) -> Path:
    """A folder with ``MODEL@ALIAS`` as an MLflow model, for the server.

    It is packed anew around the ``.keras`` file that was checked: what else lies beside the registered
    one (an ``MLmodel`` that names another loader, a ``code`` folder) is never read.

    Raises:
        UsageError, UnknownNameError, DataError: as ``load_version``.
    """
    version = find_version(client, reference)
    folder = settings.work / "serving" / f"{version.name}-{version.version}"
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        file = fetch_version(client, version, Path(scratch))
        run = str(version.run_id)
        package_model(file, folder, find_trial_model(client, run).model, run)
    return folder


def server_command(folder: Path, port: int) -> list[str]:
    """The words that start the server: on loopback, in this environment, with one worker."""
    return [
        sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder),
        "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
