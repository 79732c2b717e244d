"""Creating and opening studies, and loading the space and the data of a study."""

from __future__ import annotations

import glob
import warnings
from pathlib import Path

import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from mnist_lab.config import OBJECTIVES
from mnist_lab.data import NAMES, Dataset, load_dataset
from mnist_lab.errors import ConfigurationError, DataError, UnknownNameError
from mnist_lab.settings import Settings
from mnist_lab.spaces import SearchSpace, get_space
from mnist_lab.study.ledger import Ledger
from mnist_lab.study.names import confirm_name, is_confirmation, searched_name
from mnist_lab.study.record import differences, read_record, require_readable, write_record
from mnist_lab.study.storage import connect
from mnist_lab.tracking import StudyRecord


def create_study(
    storage: BaseStorage, record: StudyRecord, *, pruner: BasePruner | None = None
) -> Ledger:
    """Create the study of ``record``, or open the one of its name.

    Raises:
        ConfigurationError: one of that name exists and was made with something else.
    """
    direction = StudyDirection.MAXIMIZE if OBJECTIVES[record.objective] else StudyDirection.MINIMIZE
    if record.name not in optuna.get_all_study_names(storage):
        study = optuna.create_study(
            storage=storage,
            study_name=record.name,
            direction=direction,
            pruner=pruner,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([record.objective])  # as optuna-dashboard shows them
        write_record(study, record)
        return Ledger(study)
    study = optuna.load_study(study_name=record.name, storage=storage, pruner=pruner)
    found = read_record(study.user_attrs, record.name)
    is_empty = not study.user_attrs and not study.get_trials(deepcopy=False)
    problems = [] if found or is_empty else ["not made by mnist-lab"]
    if found is not None:
        if record.sources == record.space_digest:  # a space that asks
            require_readable(found)
        problems += differences(found, record)
    if study.direction != direction:
        problems.append(
            f"direction {direction.name.lower()} (the study has {study.direction.name.lower()})"
        )
    if problems:
        raise ConfigurationError(
            f"Study {record.name!r} exists and does not fit: {'; '.join(problems)}.",
            safe="Nothing was written.",
            next_step="Give another --study.",
        )
    if found is None or not found.id:  # interrupted as it was created
        write_record(study, record)
    return Ledger(study)


def open_study(settings: Settings, name: str) -> Ledger:
    """Open an existing study to read it.

    Raises:
        UnknownNameError: there is none of that name.
    """
    storage = connect(settings)
    names = optuna.get_all_study_names(storage)
    if name not in names:
        searches = [each for each in names if not is_confirmation(each)]
        raise UnknownNameError("study", name, searches, next_step="See: mnist-lab studies")
    return Ledger(optuna.load_study(study_name=name, storage=storage))


def study_names(settings: Settings) -> list[str]:
    """List the names of all studies in the storage, other programs' included, sorted."""
    return sorted(optuna.get_all_study_names(connect(settings)))


def open_studies(settings: Settings) -> list[Ledger]:
    """Open every study that mnist-lab made, searches and confirmations, by name."""
    storage = connect(settings)
    names = sorted(optuna.get_all_study_names(storage))
    found = [Ledger(optuna.load_study(study_name=name, storage=storage)) for name in names]
    return [each for each in found if each.is_managed]


def searched_study(study: Ledger) -> Ledger:
    """Open the study that ``study`` confirms; ``study`` itself if it is a search."""
    if not is_confirmation(study.name):
        return study
    name = searched_name(study.name)
    return Ledger(optuna.load_study(study_name=name, storage=study.storage))


def is_orphan(study: Ledger) -> bool:
    """Return whether ``study`` has the replicas of one that was deleted."""
    there = optuna.get_all_study_names(study.storage)
    return is_confirmation(study.name) and searched_name(study.name) not in there


def find_replicas(study: Ledger) -> Ledger | None:
    """Open the study with the replicas of ``study``; None if it was never confirmed."""
    name = confirm_name(study.name)
    if name not in optuna.get_all_study_names(study.storage):
        return None
    return Ledger(optuna.load_study(study_name=name, storage=study.storage))


def load_original_space(record: StudyRecord) -> SearchSpace:
    """Load the space that a study was made with.

    Raises:
        ConfigurationError: it has changed since.
    """
    space = get_space(record.reference)
    if space.asks:
        require_readable(record)
    space = space.shaped(record.images.shape)
    changed = record.sources and space.sources != record.sources
    if changed or space.digest != record.space_digest:
        raise ConfigurationError(
            f"Space {record.space} ({record.reference}) has changed since the study was made.",
            safe="Nothing was trained.",
            next_step="Put the former space back, or sweep the new one under another --study.",
        )
    return space


def load_original_dataset(
    record: StudyRecord, settings: Settings, dataset: str | None = None
) -> Dataset:
    """Load the data that a study was made with, wherever they lie now.

    They are known by their digest. They are looked for at ``dataset`` if it is given; else where they
    lay, below a home that may have been moved, and then under their former name anywhere in the home.

    Raises:
        DataError: they are other data now, or not there.
    """
    looked, reasons = [], []
    for place in [dataset] if dataset else _places(record, settings):
        looked.append(place)
        try:
            found = load_dataset(
                place,
                image_size=record.image_size,
                most_duplicates=1.0,  # they were counted when the study was made
                data_folder=settings.data_folder,
            )
        except DataError as error:
            reasons.append(error.problem)
            continue
        if found.digest == record.dataset_digest:
            return found
        reasons.append(
            f"{place} is not the data that the study was made with: its digest is "
            f"{found.digest[:12]}…, expected {record.dataset_digest[:12]}…."
        )
    raise DataError(
        reasons[0] if reasons else f"{record.dataset_source} is gone.",
        safe="Nothing was trained, and no test image was opened.",
        next_step="Put the former data back, or say where they lie now: --dataset PATH",
    )


def find_dataset(record: StudyRecord, settings: Settings) -> str | None:
    """Return the first place at which a study's data may lie, without reading them; None if gone."""
    return next(iter(_places(record, settings)), None)


def _places(record: StudyRecord, settings: Settings) -> list[str]:
    """Return the places to look at: paths below the home were recorded relative to it."""
    source = record.dataset_source
    if source in NAMES:
        return [source]
    name = Path(source).name
    found = [settings.root / source]  # an absolute path stays itself
    escaped = glob.escape(name)
    for pattern in (escaped, f"*/{escaped}", f"*/*/{escaped}") if name else ():
        found += sorted(settings.root.glob(pattern))
    return [str(each) for each in dict.fromkeys(found) if each.exists()]
