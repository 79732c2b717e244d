"""Opening the Optuna study of a sweep: its storage, its lock, and what it was made with."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from mnist_lab.data import Dataset, load_dataset
from mnist_lab.errors import (
    BusyError,
    ConfigurationError,
    DataError,
    UnknownNameError,
    UsageError,
)
from mnist_lab.settings import Settings
from mnist_lab.spaces import SearchSpace, get_space
from mnist_lab.sweep.config import SweepConfig
from mnist_lab.sweep.replicas import SUFFIX
from mnist_lab.sweep.storage import connect
from mnist_lab.tracking import SplitFacts, StudyRecord

_NAME = re.compile(r"[A-Za-z0-9][\w.+@-]{0,119}")
LONGEST_NAME = 100  # given by users; ours have a suffix
_FINGERPRINT = "mnist_lab"


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What all trials of a study share; a study with another one is another study."""

    space: str
    space_digest: str
    reference: str
    family: str
    dataset: str
    dataset_source: str
    dataset_digest: str
    epochs: int
    fixed: str
    sources: str = ""  # of the space's file and its neighbours; older studies have none

    def differences(self, other: Fingerprint) -> list[str]:
        """One line a difference that makes results incomparable; paths may differ."""
        mine, theirs = asdict(self), asdict(other)
        keys = ["space", "space_digest", "dataset_digest", "epochs", "fixed"]
        code = self.sources and self.sources != other.sources
        if self.sources == self.space_digest:  # of a space that asks there is nothing but its code
            keys.remove("space_digest")
        changed = f"{other.reference}, or a file beside it, has changed" if code else ""
        return [*([changed] if changed else [])] + [
            f"{key} {str(theirs[key])[:16]} (the study has {str(mine[key])[:16]})"
            for key in keys
            if mine[key] != theirs[key]
        ]


def fingerprint(config: SweepConfig, space: SearchSpace, dataset: Dataset) -> Fingerprint:
    """What a study of these three is made with."""
    return Fingerprint(
        space=space.id,
        space_digest=space.digest,
        reference=space.reference,
        family=space.name,
        dataset=dataset.name,
        dataset_source=dataset.source,
        dataset_digest=dataset.digest,
        epochs=config.epochs,
        fixed=json.dumps(dict(config.set), sort_keys=True),
        sources=space.sources,
    )


def study_name(config: SweepConfig, space: SearchSpace, dataset: Dataset) -> str:
    """The given name, or one that another space, data set or epoch count would change."""
    name = config.study or f"{dataset.name}-{space.id}-{config.epochs}ep"
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME or name.endswith(SUFFIX):
        raise UsageError(
            f"{name[:80]!r} cannot name a study: letters, digits and . _ + @ - only, "
            f"{LONGEST_NAME} at most, and no {SUFFIX} at the end."
        )
    return name


def make_record(
    name: str, config: SweepConfig, space: SearchSpace, dataset: Dataset
) -> StudyRecord:
    """What stands on the page of a new study; its id is drawn here."""
    return StudyRecord(
        id=uuid.uuid4().hex,
        name=name,
        family=space.name,
        space=space.id,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        splits={
            context: SplitFacts(images=len(split), sha256=split.digest)
            for context, split in (("train", dataset.train), ("validation", dataset.validation))
        },
        settings={
            "sampler": config.sampler,
            "pruner": config.pruner,
            "epochs": str(config.epochs),
            "seed": str(config.seed),
            "space_digest": space.digest,
            "optuna": optuna.__version__,
            **{f"set.{key}": str(value) for key, value in config.set.items()},
        },
    )


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


def require_readable(made_with: Fingerprint) -> None:
    """Refuse a study of a hypermodel that an earlier version explored beforehand.

    Raises:
        ConfigurationError: its space is known otherwise now.
    """
    if not made_with.sources:
        raise ConfigurationError(
            f"The study was made by an earlier mnist-lab, which read {made_with.reference} otherwise.",
            safe="Nothing was trained. Its runs and registered models stay as they are.",
            next_step="Sweep the file again, under another --study.",
        )


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


def read_fingerprint(study: optuna.Study) -> Fingerprint | None:
    """What ``study`` was made with; None if mnist-lab did not make it."""
    stored = study.user_attrs.get(_FINGERPRINT)
    return Fingerprint(**stored) if stored else None


def same_space(made_with: Fingerprint) -> SearchSpace:
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


def same_data(made_with: Fingerprint, settings: Settings) -> Dataset:
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


def is_held(folder: Path, name: str) -> bool:
    """Whether a process on this machine holds the study."""
    if not (_NAME.fullmatch(name) and (folder / f"{name}.lock").exists()):
        return False
    try:
        with hold(folder, name):
            return False
    except BusyError:
        return True


def is_ours(study: optuna.Study) -> bool:
    """Whether mnist-lab made the study, under a name that may name files."""
    return read_fingerprint(study) is not None and bool(_NAME.fullmatch(study.study_name))


@contextmanager
def hold(folder: Path, name: str) -> Iterator[None]:
    """Be the only supervisor of a study on this machine; the lock dies with its process.

    Raises:
        BusyError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / f"{name}.pid"
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text() if holder.exists() else "unknown"
        raise BusyError(
            f"Study {name!r} is held by process {who}.",
            safe="It goes on.",
            next_step="Wait for it, or stop it with Ctrl-C in its terminal.",
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
