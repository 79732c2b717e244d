"""``serve``: a registered model behind MLflow's own scoring server, made of the checked file only."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from mlflow import MlflowClient

from mnist_lab.errors import DataError
from mnist_lab.models.safe import is_on_the_list, names_keras_only
from mnist_lab.models.versions import ModelFile, fetch, find_version, find_version_model, load
from mnist_lab.settings import Settings
from mnist_lab.tracking.package import package_model
from mnist_lab.training import save_model


def prepare(client: MlflowClient, reference: str, settings: Settings) -> Path:
    """Pack ``MODEL@ALIAS`` as an MLflow model for the server, and return its folder.

    It is packed anew around the ``.keras`` file that was checked: what else lies beside the registered
    one (an ``MLmodel`` that names another loader, a ``code`` folder) is never read. The server loads it
    with plain Keras, so a model of its author's own classes cannot be served.

    Raises:
        UsageError, UnknownNameError, DataError: as ``load_version``; also for such a model.
    """
    version = find_version(client, reference)
    folder = settings.work / "serving" / f"{version.name}-{version.version}"
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        model = find_version_model(client, version)
        file = fetch(client, model, Path(scratch))
        if not is_on_the_list(file, model.sha256):
            file = _built_again(client, reference, model, Path(scratch) / "again.keras", settings)
        package_model(file, folder, model.images)
    return folder


def _built_again(
    client: MlflowClient, reference: str, model: ModelFile, file: Path, settings: Settings
) -> Path:
    """Save the model as its space builds it, with no code but Keras's."""
    save_model(load(client, model, settings), file)
    if not names_keras_only(file):
        raise DataError(
            "The server loads models with plain Keras, and this one has classes of its author's own.",
            safe="Nothing was started.",
            next_step=f"Type: mnist-lab predict {reference} PICTURE, or: mnist-lab export {reference} "
            "--format saved_model",
        )
    return file


def prepare_path() -> None:
    """Add the folder of the server's program to this process's ``PATH``.

    ``mlflow models serve`` starts uvicorn by its name, which is not on the ``PATH`` of a user who
    typed ``.venv/bin/mnist-lab``.
    """
    programs = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])


def server_command(folder: Path, port: int) -> list[str]:
    """Return the server's command line: on loopback, in this environment, with one worker."""
    return [
        sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder),
        "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
