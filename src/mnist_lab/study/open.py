"""Create and open the Optuna study of a sweep, its space and its data."""

from __future__ import annotations

from dataclasses import asdict

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from mnist_lab.data import Dataset, load_dataset
from mnist_lab.errors import (
    ConfigurationError,
    DataError,
    UnknownNameError,
    UsageError,
)
from mnist_lab.settings import Settings
from mnist_lab.spaces import SearchSpace, get_space
from mnist_lab.study.config import SweepConfig
from mnist_lab.study.lock import _NAME
from mnist_lab.study.record import _FINGERPRINT, Fingerprint, read_fingerprint, require_readable
from mnist_lab.study.replicas import SUFFIX
from mnist_lab.study.storage import connect

LONGEST_NAME = 100  # given by users; ours have a suffix


def study_name(config: SweepConfig, space: SearchSpace, dataset: Dataset) -> str:
    """The given name, or one that another space, data set or epoch count would change."""
    name = config.study or f"{dataset.name}-{space.id}-{config.epochs}ep"
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME or name.endswith(SUFFIX):
        raise UsageError(
            f"{name[:80]!r} cannot name a study: letters, digits and . _ + @ - only, "
            f"{LONGEST_NAME} at most, and no {SUFFIX} at the end."
        )
    return name


def create_study(
    storage: BaseStorage, name: str, made_with: Fingerprint, *, pruner: optuna.pruners.BasePruner
) -> optuna.Study:
    """Create the study or open the one of that name.

    Raises:
        ConfigurationError: one of that name exists and was made with something else.
    """
    if name not in optuna.get_all_study_names(storage):
        study = optuna.create_study(
            storage=storage, study_name=name, direction=StudyDirection.MAXIMIZE, pruner=pruner
        )
        study.set_user_attr(_FINGERPRINT, asdict(made_with))
        return study
    study = optuna.load_study(study_name=name, storage=storage, pruner=pruner)
    found = read_fingerprint(study)
    if found is not None and made_with.sources == made_with.space_digest:  # a space that asks
        require_readable(found)
    empty = not study.user_attrs and not study.get_trials(deepcopy=False)
    if empty and study.direction == StudyDirection.MAXIMIZE:  # cut off as it was created
        study.set_user_attr(_FINGERPRINT, asdict(made_with))
    found = read_fingerprint(study)
    differences = ["not made by mnist-lab"] if found is None else found.differences(made_with)
    if study.direction != StudyDirection.MAXIMIZE:
        differences.append(f"direction maximize (the study has {study.direction.name.lower()})")
    if differences:
        raise ConfigurationError(
            f"Study {name!r} exists and does not fit: {'; '.join(differences)}.",
            safe="Nothing was written.",
            next_step="Give another --study.",
        )
    return study


def open_study(settings: Settings, name: str) -> optuna.Study:
    """Open an existing study to read it.

    Raises:
        UnknownNameError: there is none of that name.
    """
    opened = connect(settings)
    names = optuna.get_all_study_names(opened)
    if name not in names:
        searches = [each for each in names if not each.endswith(SUFFIX)]
        raise UnknownNameError("study", name, searches, next_step="See: mnist-lab studies")
    return optuna.load_study(study_name=name, storage=opened)


def load_original_space(made_with: Fingerprint) -> SearchSpace:
    """The space that a study was made with.

    Raises:
        ConfigurationError: it has changed since.
    """
    space = get_space(made_with.reference)
    if space.asks:
        require_readable(made_with)
    changed = made_with.sources and space.sources != made_with.sources
    if changed or space.digest != made_with.space_digest:
        raise ConfigurationError(
            f"Space {made_with.space} ({made_with.reference}) has changed since the study was made.",
            safe="Nothing was trained.",
            next_step="Put the former space back, or sweep the new one under another --study.",
        )
    return space


def load_original_dataset(made_with: Fingerprint, settings: Settings) -> Dataset:
    """The data that a study was made with.

    Raises:
        DataError: they are other data now, or not there.
    """
    dataset = load_dataset(made_with.dataset_source, data_folder=settings.data_folder)
    if dataset.digest != made_with.dataset_digest:
        raise DataError(
            f"{made_with.dataset_source} is not the data that the study was made with: its digest is "
            f"{dataset.digest[:12]}…, expected {made_with.dataset_digest[:12]}….",
            safe="Nothing was trained, and no test image was opened.",
            next_step="Put the former file back.",
        )
    return dataset


def is_ours(study: optuna.Study) -> bool:
    """Whether mnist-lab made the study, under a name that may name files."""
    return read_fingerprint(study) is not None and bool(_NAME.fullmatch(study.study_name))
