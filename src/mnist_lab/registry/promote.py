"""``promote``: a study's best model becomes the champion, if it is better than the one that is."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from mnist_lab.errors import MnistLabError
from mnist_lab.registry.models import CHAMPION, PREVIOUS, TrialModel, find_trial_model
from mnist_lab.registry.testing import TestResult, evaluate_model
from mnist_lab.settings import Settings
from mnist_lab.sweep import ledger, open_study
from mnist_lab.sweep.study import Fingerprint, read_fingerprint
from mnist_lab.tracking.mlflow_tracker import TAG


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What was decided. ``version`` is None when nothing was done; accuracies in [0, 1].

    ``test`` is None when nothing was done, or when the version had been scored before; ``already``
    says that this trial is the champion.
    ``champion_accuracy`` is the former champion's on the validation images, None if there was none.
    """

    name: str
    study: str
    trial: int
    val_accuracy: float
    champion_accuracy: float | None
    champion_version: int | None
    version: int | None
    test: TestResult | None
    forced: bool
    already: bool

    @property
    def promoted(self) -> bool:
        return self.version is not None


def promote(
    client: MlflowClient, study_name: str, settings: Settings, *, force: bool = False
) -> Promotion:
    """Make the best complete trial of a study the champion of ``<dataset>-<family>``.

    It becomes one only when its validation accuracy is higher than the champion's; then it is
    registered, scored once on the sealed test images, and given the alias ``champion``, the former
    holder ``previous``. Otherwise nothing is written. ``force`` promotes it anyway.

    Raises:
        MnistLabError: the study has no complete trial, or its model is missing or damaged.
    """
    study = open_study(settings, study_name)
    made_with = read_fingerprint(study)
    best = next(iter(ledger.rank(study)), None)
    if best is None or best.value is None or made_with is None:
        raise MnistLabError(
            f"Study {study_name!r} has no complete trial.",
            safe="Nothing was registered.",
            next_step="See: mnist-lab studies",
        )
    name = f"{made_with.dataset}-{made_with.family}"
    champion = _champion(client, name)
    _require_same_data(champion, made_with, force=force)
    bar = float(champion.tags.get(f"{TAG}val_accuracy", 0.0)) if champion else None
    better = bar is None or best.value > bar
    version, test = None, None
    run = ledger.find_run(study, best.number)
    already = champion is not None and champion.run_id == run
    if (better or force) and not already:
        model = find_trial_model(client, run)
        registered = _register(client, name, model, made_with, best.value)
        if f"{TAG}test_accuracy" not in registered.tags:  # else it was cut off, or is back again
            test = evaluate_model(client, model, made_with, settings)
        _move_aliases(client, registered, champion)
        version = int(registered.version)
    return Promotion(
        name=name,
        study=study_name,
        trial=best.number,
        val_accuracy=best.value,
        champion_accuracy=bar,
        champion_version=int(champion.version) if champion else None,
        version=version,
        test=test,
        forced=force and not better,
        already=already,
    )


def _require_same_data(
    champion: ModelVersion | None, made_with: Fingerprint, *, force: bool
) -> None:
    theirs = champion.tags.get(f"{TAG}dataset_digest") if champion is not None else None
    if theirs not in (None, made_with.dataset_digest) and not force:
        raise MnistLabError(
            "The champion was validated on other images: the two accuracies cannot be compared.",
            safe="Nothing was registered.",
            next_step="To promote this one all the same: --force",
        )


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _register(
    client: MlflowClient, name: str, model: TrialModel, made_with: Fingerprint, val_accuracy: float
) -> ModelVersion:
    """A version of this model; the one there is when a promotion was cut off after making it."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, tags={f"{TAG}family": made_with.family})
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(f"{TAG}sha256") == model.sha256 and version.run_id == model.run:
            return version
    return client.create_model_version(
        name,
        source=f"models:/{model.model}",
        run_id=model.run,
        model_id=model.model,
        tags={
            f"{TAG}study": model.study,
            f"{TAG}trial": str(model.trial),
            f"{TAG}run": model.run,
            f"{TAG}space": made_with.space,
            f"{TAG}space_digest": made_with.space_digest,
            f"{TAG}dataset_digest": made_with.dataset_digest,
            f"{TAG}sha256": model.sha256,
            f"{TAG}val_accuracy": repr(val_accuracy),
        },
        description=f"Trial {model.trial} of study {model.study}: validation {val_accuracy:.2%}.",
    )


def _move_aliases(
    client: MlflowClient, version: ModelVersion, champion: ModelVersion | None
) -> None:
    if champion is not None:
        client.set_registered_model_alias(version.name, PREVIOUS, champion.version)
    client.set_registered_model_alias(version.name, CHAMPION, version.version)
