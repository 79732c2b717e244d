"""Checks of the registry: every version's file, and its aliases."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mnist_lab.doctor.finding import Finding
from mnist_lab.errors import MnistLabError, first_line
from mnist_lab.models import (
    CHAMPION,
    PREVIOUS,
    SpaceAbsentError,
    VersionRow,
    list_versions,
    verify_version,
)
from mnist_lab.promotion import find_holder
from mnist_lab.settings import Settings


def check_models(client: MlflowClient, settings: Settings) -> Iterator[Finding]:
    """Find registered versions whose file is missing or changed, and champions never scored."""
    for version in list_versions(client):
        if not version.study:
            continue  # not made by mnist-lab
        name = f"{version.name}/{version.version}"
        error = _file_error(client, version.name, version.version, settings)
        if error is not None:
            problem = error.problem if isinstance(error, MnistLabError) else first_line(error)
            advice = _advise(client, version, error, settings)
            yield Finding(subject=name, problem=problem, advice=advice)
        elif CHAMPION in version.aliases and version.test_accuracy is None:
            yield Finding(
                subject=name,
                problem="is champion without having been scored on the test images",
                advice=f"Type: mnist-lab evaluate {version.name}@{CHAMPION}",
            )


def _advise(client: MlflowClient, version: VersionRow, error: Exception, settings: Settings) -> str:
    """Return the remedy for a version that cannot be loaded; only the champion's is needed."""
    back = "Bring the file back from a copy"
    if isinstance(error, SpaceAbsentError):
        back = error.next_step.rstrip(".")
    if CHAMPION not in version.aliases:
        return f"{back}, or delete the version on the pages of mnist-lab ui."
    previous = find_holder(client, version.name, PREVIOUS)
    if previous is None or _file_error(client, previous.name, int(previous.version), settings):
        return f"{back}, or make another study's model champion: mnist-lab promote STUDY --force"
    return f"{back}, or type: mnist-lab rollback {version.name}"


def _file_error(
    client: MlflowClient, name: str, number: int, settings: Settings
) -> Exception | None:
    try:
        verify_version(client, client.get_model_version(name, str(number)), settings)
    except (MnistLabError, MlflowException, OSError) as error:
        return error
    return None
