"""The registry: every version's file, and what its aliases stand on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mnist_lab.doctor.finding import Finding
from mnist_lab.errors import MnistLabError, first_line
from mnist_lab.registry.models import (
    CHAMPION,
    VersionRow,
    fetch_keras_file,
    find_trial_model,
    list_versions,
)


def check_models(client: MlflowClient) -> Iterator[Finding]:
    """Registered versions whose file is missing or changed, and champions that were never scored."""
    for version in list_versions(client):
        if not version.study:
            continue  # somebody else's
        name = f"{version.name}/{version.version}"
        problem = _file_problem(client, version)
        if problem:
            yield Finding(
                subject=name,
                problem=problem,
                advice="Bring the file back from a copy, or promote another version.",
            )
        if CHAMPION in version.aliases and version.test_accuracy is None:
            yield Finding(
                subject=name,
                problem="is champion without having been scored on the test images",
                advice=f"Type: mnist-lab evaluate {version.name}@{CHAMPION}",
            )


def _file_problem(client: MlflowClient, version: VersionRow) -> str:
    try:
        with tempfile.TemporaryDirectory() as folder:
            fetch_keras_file(client, find_trial_model(client, version.run), Path(folder))
    except MnistLabError as error:
        return error.problem
    except (MlflowException, OSError) as error:
        return f"its file cannot be read: {first_line(error)}"
    return ""
