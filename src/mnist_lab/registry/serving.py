"""``serve``: a registered model behind MLflow's own scoring server, made of the checked file only."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from mlflow import MlflowClient

from mnist_lab.registry.models import fetch, find_version, find_version_model
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
        model = find_version_model(client, version)
        package_model(fetch(client, model, Path(scratch)), folder, model.model, model.run)
    return folder


def prepare_path() -> None:
    """Have this process, which becomes the server, find the server's program.

    ``mlflow models serve`` starts uvicorn by its name, which is on nobody's ``PATH`` who typed
    ``.venv/bin/mnist-lab``.
    """
    programs = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])


def server_command(folder: Path, port: int) -> list[str]:
    """The words that start the server: on loopback, in this environment, with one worker."""
    return [
        sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder),
        "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
