"""Models in MLflow: those that trials logged, and the versions made of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient, artifacts
from mlflow.entities import LifecycleStage
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from mnist_lab.data import ImageForm
from mnist_lab.errors import DataError, UnknownNameError, UsageError, first_line
from mnist_lab.execution import Blueprint, usable_cores
from mnist_lab.models.rebuild import check_trained, load_trained
from mnist_lab.models.safe import check_archive
from mnist_lab.settings import Settings
from mnist_lab.study import confirm_name
from mnist_lab.tracking import TAG
from mnist_lab.tracking.package import KERAS_FILE
from mnist_lab.tracking.pages import all_pages
from mnist_lab.training import Runtime, configure

if TYPE_CHECKING:
    import keras

CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"
ENSEMBLE = f"{TAG}ensemble"  # of a version: how many models it is the mean of, where several
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # how MLflow says so


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A ``.keras`` file in MLflow: its ``uri``, and the ``sha256`` that it had when it was logged.

    ``trial`` of ``study`` trained it, and ``run`` logged it as the logged model of id ``model``. Run
    and logged model may be gone: a version needs neither. ``blueprint`` says what the model
    can be built of again; None for models that were logged without.
    """

    uri: str
    sha256: str
    study: str
    trial: int
    run: str
    model: str
    blueprint: Blueprint | None = None

    @property
    def images(self) -> ImageForm:
        """The form of the images that the model takes; MNIST's for models logged without."""
        return self.blueprint.images if self.blueprint else ImageForm()


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One version of a registered model.

    Accuracies are in [0, 1], the validation's a mean over seeds, the test's None if never opened;
    ``verdict`` is the gate's last. The model is the mean of ``members`` trainings of the trial.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    study: str
    trial: int | None
    val_accuracy: float | None
    test_accuracy: float | None
    verdict: str
    run: str
    members: int = 1


def find_trial_model(client: MlflowClient, run: str) -> ModelFile:
    """Find the model that the trial of ``run`` logged.

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
        logged = client.get_logged_model(model)
        return ModelFile(
            uri=_keras_file_in(logged.artifact_location),
            sha256=logged.tags[f"{TAG}sha256"],
            study=logged.tags[f"{TAG}study"],
            trial=int(logged.tags[f"{TAG}trial"]),
            run=run,
            model=model,
            blueprint=_read_blueprint(logged.tags),
        )
    except (MlflowException, KeyError) as error:
        raise DataError(
            f"The run {run} or its model is gone, or is not mnist-lab's ({first_line(error)}).",
            safe="No alias was moved.",
            next_step="See: mnist-lab doctor",
        ) from error


def find_version_model(client: MlflowClient, version: ModelVersion) -> ModelFile:
    """Find the model of a version, by the facts on the version alone.

    Raises:
        DataError: mnist-lab did not register it.
    """
    tags, name = version.tags, f"{version.name}/{version.version}"
    if f"{TAG}sha256" not in tags:
        raise DataError(
            f"{name} was not registered by mnist-lab promote: nothing says what its file should be.",
            safe="It was not loaded.",
            next_step="See: mnist-lab models",
        )
    study, replica = tags.get(f"{TAG}study", ""), tags.get(f"{TAG}replica")
    location = client.get_model_version_download_uri(version.name, str(version.version))
    return ModelFile(
        uri=_keras_file_in(location),
        sha256=tags[f"{TAG}sha256"],
        study=study if replica is None else confirm_name(study),
        trial=int(replica or tags.get(f"{TAG}trial", 0)),
        run=version.run_id or "",
        model=str(version.source).rpartition("models:/")[2],
        blueprint=_read_blueprint(tags),
    )


def _read_blueprint(tags: Mapping[str, str]) -> Blueprint | None:
    text = tags.get(f"{TAG}blueprint")
    return Blueprint.from_json(text) if text else None


def _keras_file_in(location: str) -> str:
    return f"{location.rstrip('/')}/{KERAS_FILE.as_posix()}"


def fetch(client: MlflowClient, model: ModelFile, folder: Path) -> Path:
    """Download the model's ``.keras`` file; check its digest, its archive and its weights.

    Raises:
        DataError: the file is gone, is not the one that was logged, or is no plain archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = Path(
            artifacts.download_artifacts(
                artifact_uri=model.uri, dst_path=str(folder), tracking_uri=client.tracking_uri
            )
        )
    except (MlflowException, OSError) as error:
        raise DataError(
            f"The model file {model.uri} cannot be fetched ({first_line(error)}).",
            safe="No alias was moved.",
            next_step="Bring it back from a copy, or use another version: mnist-lab models",
        ) from error
    check_archive(file, model.sha256)
    return file


def verify_version(client: MlflowClient, version: ModelVersion, settings: Settings) -> None:
    """Raise ``DataError`` unless a version's file is the registered one and can be loaded."""
    with tempfile.TemporaryDirectory() as folder:
        model = find_version_model(client, version)
        file = fetch(client, model, Path(folder))
        check_trained(file, model.sha256, model.blueprint, settings)


def load(client: MlflowClient, model: ModelFile, settings: Settings) -> keras.Model:
    """Fetch a model's file, and load it safely.

    Raises:
        DataError: as ``fetch``, and as ``load_trained``.
    """
    configure(Runtime(threads=usable_cores()))
    with tempfile.TemporaryDirectory() as folder:
        file = fetch(client, model, Path(folder))
        return load_trained(file, model.sha256, model.blueprint, settings)


def is_writable(client: MlflowClient, run: str) -> bool:
    """Return whether a run can be written to: neither it nor its experiment is deleted or missing."""
    try:
        return bool(client.get_run(run).info.lifecycle_stage == LifecycleStage.ACTIVE)
    except MlflowException as error:
        if error.error_code in MISSING:
            return False
        raise


def is_version(reference: str) -> bool:
    """Return whether it is ``MODEL@ALIAS`` or ``MODEL/VERSION``, and no name of a study or a model."""
    return "@" in reference or "/" in reference


def find_version(client: MlflowClient, reference: str) -> ModelVersion:
    """Find the version of a reference such as ``mnist-cnn@champion`` or ``mnist-cnn/3``.

    Raises:
        UsageError: it is neither.
        UnknownNameError: no such model, alias or version.
    """
    name, at, alias = reference.rpartition("@")
    name, slash, number = (name, "", "") if at else reference.rpartition("/")
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


def load_version(
    client: MlflowClient, reference: str, settings: Settings
) -> tuple[ModelVersion, ImageForm, keras.Model]:
    """Find a version, ``MODEL@ALIAS`` or ``MODEL/VERSION``, and load its network safely.

    Returns version, the form of the images that the network takes, and the network.

    Raises:
        UsageError, UnknownNameError: as ``find_version``.
        DataError: its file is not what was registered.
    """
    version = find_version(client, reference)
    model = find_version_model(client, version)
    return version, model.images, load(client, model, settings)


def versions_of(client: MlflowClient, run: str) -> list[ModelVersion]:
    """Find the versions made of the model of ``run``, which may be gone."""
    return all_pages(client.search_model_versions, f"run_id = '{run}'") if run else []


def versions_named(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Find every version of a registered model."""
    quote = '"' if "'" in name else "'"
    return all_pages(client.search_model_versions, f"name = {quote}{name}{quote}")


def read_tags(client: MlflowClient, name: str) -> dict[str, str]:
    """Read the tags of a registered model; none if there is no such model."""
    try:
        return dict(client.get_registered_model(name).tags)
    except MlflowException as error:
        if error.error_code in MISSING:
            return {}
        raise


def list_versions(client: MlflowClient, name: str | None = None) -> list[VersionRow]:
    """List every version of every registered model (or of ``name``), newest first."""
    rows = []
    for model in all_pages(client.search_registered_models):
        if name is not None and model.name != name:
            continue
        aliases = client.get_registered_model(model.name).aliases
        found = versions_named(client, model.name)
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
        verdict=tags.get(f"{TAG}verdict", ""),
        run=version.run_id or "",
        members=int(tags.get(ENSEMBLE, 1)),
    )
