"""Models in MLflow: those that trials logged, and the versions made of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient, artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from mnist_lab.errors import DataError, UnknownNameError, UsageError, first_line
from mnist_lab.execution.resources import usable_cores
from mnist_lab.registry.safe import check_file, load_model
from mnist_lab.tracking.package import KERAS_FILE
from mnist_lab.tracking.pages import all_pages
from mnist_lab.tracking.tags import TAG
from mnist_lab.training import Runtime, configure

if TYPE_CHECKING:
    import keras

CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"


@dataclass(frozen=True, kw_only=True)
class TrialModel:
    """A trial's logged model. ``sha256`` is of its ``.keras`` file, as it was when it was logged."""

    model: str
    run: str
    study: str
    trial: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One version of a registered model; accuracies in [0, 1], the validation's a mean over seeds, the
    test's None if never opened; ``verdict`` is the gate's last."""

    name: str
    version: int
    aliases: tuple[str, ...]
    study: str
    trial: int | None
    val_accuracy: float | None
    test_accuracy: float | None
    test_openings: int
    verdict: str
    run: str


def find_trial_model(client: MlflowClient, run: str) -> TrialModel:
    """The model that the trial of ``run`` logged.

    Raises:
        UnknownNameError: it logged none (only the best few of a study do).
        DataError: the run or the model is gone, or was logged by something else.
    """
    try:
        model = client.get_run(run).data.tags.get(f"{TAG}model")
        if model is None:
            raise UnknownNameError(
                "logged model of run",
                run,
                (),
                next_step="Only the best trials of a study keep one (keep_models when it is swept).",
            )
        tags = client.get_logged_model(model).tags
        return TrialModel(
            model=model,
            run=run,
            study=tags[f"{TAG}study"],
            trial=int(tags[f"{TAG}trial"]),
            sha256=tags[f"{TAG}sha256"],
        )
    except (MlflowException, KeyError) as error:
        raise DataError(
            f"The run {run} or its model is gone, or is not mnist-lab's ({first_line(error)}).",
            safe="No alias was moved.",
            next_step="See: mnist-lab doctor",
        ) from error


def fetch_keras_file(client: MlflowClient, model: TrialModel, folder: Path) -> Path:
    """Bring the model's ``.keras`` file here and check everything that ``safe`` checks.

    Raises:
        DataError: the file is gone, is not the one that was logged, or not harmless.
    """
    location = client.get_logged_model(model.model).artifact_location
    uri = f"{location.rstrip('/')}/{KERAS_FILE.as_posix()}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = Path(
            artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(folder), tracking_uri=client.tracking_uri
            )
        )
    except (MlflowException, OSError) as error:
        raise DataError(
            f"The model file {uri} cannot be fetched ({first_line(error)}).",
            safe="No alias was moved.",
            next_step="Bring it back from a copy, or use another version: mnist-lab models",
        ) from error
    check_file(file, model.sha256)
    return file


def fetch_version(client: MlflowClient, version: ModelVersion, folder: Path) -> Path:
    """As ``fetch_keras_file``, by the digest on the version itself.

    Raises:
        DataError: also for a version that mnist-lab did not register.
    """
    digest = version.tags.get(f"{TAG}sha256")
    if digest is None:
        raise DataError(
            f"{version.name}/{version.version} was not registered by mnist-lab promote: nothing says "
            "what its file should be.",
            safe="It was not loaded.",
            next_step="See: mnist-lab models",
        )
    model = find_trial_model(client, str(version.run_id))
    return fetch_keras_file(client, replace(model, sha256=digest), folder)


def verify_version(client: MlflowClient, version: ModelVersion) -> None:
    """Raise ``DataError`` unless the file behind a version is what was registered, and harmless."""
    with tempfile.TemporaryDirectory() as folder:
        fetch_version(client, version, Path(folder))


def is_version(reference: str) -> bool:
    """Whether it is ``MODEL@ALIAS`` or ``MODEL/VERSION``, and no name of a study or a model."""
    return "@" in reference or "/" in reference


def find_version(client: MlflowClient, reference: str) -> ModelVersion:
    """``mnist-cnn@champion`` or ``mnist-cnn/3``.

    Raises:
        UsageError: it is neither.
        UnknownNameError: no such model, alias or version.
    """
    name, at, alias = reference.partition("@")
    name, slash, number = (name, "", "") if at else reference.partition("/")
    if not (at or slash):
        raise UsageError(
            f"{reference!r} names no model version: write MODEL@ALIAS or MODEL/VERSION."
        )
    try:
        if at:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, number)
    except MlflowException:
        known = [
            f"{row.name}@{alias}" for row in list_versions(client) for alias in row.aliases
        ] + [f"{row.name}/{row.version}" for row in list_versions(client)]
        raise UnknownNameError(
            "model version", reference, known, next_step="See: mnist-lab models"
        ) from None


def load_version(client: MlflowClient, reference: str) -> tuple[ModelVersion, keras.Model]:
    """A registered version, ``MODEL@ALIAS`` or ``MODEL/VERSION``, and its network, safely loaded.

    Raises:
        UsageError, UnknownNameError: as ``find_version``.
        DataError: its file is not what was registered.
    """
    version = find_version(client, reference)
    with tempfile.TemporaryDirectory() as folder:
        file = fetch_version(client, version, Path(folder))
        configure(Runtime(threads=usable_cores()))
        return version, load_model(file, version.tags[f"{TAG}sha256"])


def versions_of(client: MlflowClient, run: str) -> list[ModelVersion]:
    """The versions that were made of the model of ``run``."""
    return all_pages(client.search_model_versions, f"run_id = '{run}'")


def count_openings(client: MlflowClient, name: str) -> int:
    """How often the sealed images were opened for versions of a model, deleted ones included."""
    return int(read_tags(client, name).get(f"{TAG}test_openings", 0))


def read_tags(client: MlflowClient, name: str) -> dict[str, str]:
    """The tags of a registered model; none if there is no such model."""
    try:
        return dict(client.get_registered_model(name).tags)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return {}
        raise


def list_versions(client: MlflowClient, name: str | None = None) -> list[VersionRow]:
    """Every version of every registered model (or of ``name``), newest first."""
    rows = []
    for model in all_pages(client.search_registered_models):
        if name is not None and model.name != name:
            continue
        aliases = client.get_registered_model(model.name).aliases
        found = all_pages(client.search_model_versions, f"name = '{model.name}'")
        rows += [_row(version, aliases) for version in sorted(found, key=lambda v: -int(v.version))]
    return rows


def _row(version: ModelVersion, aliases: dict[str, str]) -> VersionRow:
    tags = version.tags

    def number(key: str) -> float | None:
        return float(tags[TAG + key]) if TAG + key in tags else None

    return VersionRow(
        name=version.name,
        version=int(version.version),
        aliases=tuple(
            alias for alias, held in aliases.items() if int(held) == int(version.version)
        ),
        study=tags.get(f"{TAG}study", ""),
        trial=int(tags[f"{TAG}trial"]) if f"{TAG}trial" in tags else None,
        val_accuracy=number("val_accuracy"),
        test_accuracy=number("test_accuracy"),
        test_openings=int(number("test_openings") or 0),
        verdict=tags.get(f"{TAG}verdict", ""),
        run=version.run_id or "",
    )
