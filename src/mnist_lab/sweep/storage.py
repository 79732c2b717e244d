"""The study's storage: opened, read fast, and spoken of in one line when it fails."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from mnist_lab.errors import (
    BusyError,
    ConfigurationError,
    DiskFullError,
    ServiceError,
    first_line,
    is_disk_full,
    masked,
)
from mnist_lab.settings import Settings

SCHEMA_TIMEOUT_SECONDS = 120
SQLITE_PATIENCE_SECONDS = 60  # another process may hold the file: wait so long before giving up
SERVER_PATIENCE_SECONDS = 60  # a database server that is restarted is back within seconds
SERVER_PAUSE_SECONDS = 0.5


class Storage(RDBStorage):
    """Optuna's own storage, but for the first reading of a study.

    Optuna builds an object for every row: 9 s for 10,000 trials of 12 parameters, against 2 s here
    (measured). A test holds the result against Optuna's own.
    """

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is None and trial_id_greater_than < 0:
            try:
                return self._read_all(study_id)
            except sqlalchemy.exc.SQLAlchemyError as error:
                raise StorageInternalError(first_line(error)) from error
        return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)

    def _read_all(self, study_id: int) -> list[FrozenTrial]:
        trials = self._trials(study_id)  # first: what ends meanwhile is still running here
        params: dict[int, dict[str, Any]] = defaultdict(dict)
        distributions: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
        columns = ("param_name", "param_value", "distribution_json")
        for trial, name, value, text in self._rows(study_id, models.TrialParamModel, columns):
            distribution = _distribution(text)
            distributions[trial][name] = distribution
            params[trial][name] = distribution.to_external_repr(value)
        values = self._by_trial(
            study_id,
            models.TrialValueModel,
            ("objective", "value", "value_type"),
            models.TrialValueModel.stored_repr_to_value,
        )
        steps = self._by_trial(
            study_id,
            models.TrialIntermediateValueModel,
            ("step", "intermediate_value", "intermediate_value_type"),
            models.TrialIntermediateValueModel.stored_repr_to_intermediate_value,
        )
        attributes = ("key", "value_json")
        ours = self._by_trial(study_id, models.TrialUserAttributeModel, attributes, json.loads)
        optunas = self._by_trial(study_id, models.TrialSystemAttributeModel, attributes, json.loads)
        return [
            FrozenTrial(
                number=row.number,
                state=row.state,
                value=None,
                values=[value for _, value in sorted(values[row.trial_id].items())] or None,
                datetime_start=row.datetime_start,
                datetime_complete=row.datetime_complete,
                params=params[row.trial_id],
                distributions=distributions[row.trial_id],
                user_attrs=ours[row.trial_id],
                system_attrs=optunas[row.trial_id],
                intermediate_values=steps[row.trial_id],
                trial_id=row.trial_id,
            )
            for row in trials
        ]

    def _trials(self, study_id: int) -> Sequence[Any]:
        trial = models.TrialModel  # its objects, which turn stored times into local ones
        query = sqlalchemy.select(trial).where(trial.study_id == study_id).order_by(trial.trial_id)
        with Session(self.engine) as session:
            return session.scalars(query).all()

    def _rows(self, study_id: int, model: Any, columns: Sequence[str]) -> Sequence[Any]:
        trials, table = models.TrialModel.__table__, model.__table__
        query = (
            sqlalchemy.select(table.c.trial_id, *(table.c[name] for name in columns))
            .join(trials, trials.c.trial_id == table.c.trial_id)
            .where(trials.c.study_id == study_id)
            .order_by(*table.primary_key.columns)
        )
        with self.engine.connect() as connection:
            return connection.execute(query).all()

    def _by_trial(
        self, study_id: int, model: Any, columns: Sequence[str], read: Any
    ) -> dict[int, dict[Any, Any]]:
        found: dict[int, dict[Any, Any]] = defaultdict(dict)
        for trial, key, *stored in self._rows(study_id, model, columns):
            found[trial][key] = read(*stored)
        return found


def _connect_patiently(dialect: Any, _: Any, words: Sequence[Any], options: dict[str, Any]) -> Any:
    """A new connection for SQLAlchemy, waited for while the server does not answer."""
    deadline = time.monotonic() + SERVER_PATIENCE_SECONDS
    while True:
        try:
            return dialect.connect(*words, **options)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(SERVER_PAUSE_SECONDS)


@cache
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def require_writable(settings: Settings) -> None:
    """Say now, not after an hour of training, that a folder cannot be written.

    Raises:
        ConfigurationError: which one, and why.
    """
    folders = [settings.root, settings.work]
    if settings.tracking_uri_override is None:
        folders.append(settings.artifact_root)
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            if is_disk_full(error):
                raise
            raise ConfigurationError(
                f"{folder} cannot be written: {error.strerror}.",
                safe="Nothing was trained.",
                next_step="Change its permissions, or type the command in another folder.",
            ) from None


@contextmanager
def translate_storage_errors(settings: Settings) -> Iterator[None]:
    """Say in one line what has become of the study's storage, or of the disk.

    Raises:
        DiskFullError, BusyError, ServiceError
    """
    kept = "Every finished trial and every checkpoint before is kept."
    try:
        yield
    except KeyError as error:
        if error.args != (models.NOT_FOUND_MSG,):
            raise
        raise ServiceError(
            "Somebody deleted the study, or some of its trials, while it was swept.",
            safe="What was logged to MLflow before is there.",
            next_step="The same command again begins it anew.",
        ) from error
    except (StorageInternalError, OSError) as error:
        if is_disk_full(error):
            raise DiskFullError(
                f"No space left in {settings.root}, {_free_bytes(settings)}: {first_line(error)}.",
                safe=kept,
                next_step="Make room, then type the same command again.",
            ) from error
        if isinstance(error, OSError):
            raise
        if "locked" in f"{error}{error.__cause__}":
            raise BusyError(
                f"Another process has locked the study's database for {SQLITE_PATIENCE_SECONDS} s.",
                safe=kept,
                next_step="End it, then type the same command again.",
            ) from error
        raise ServiceError(
            f"The study's storage is lost: {masked(first_line(error.__cause__ or error))}.",
            safe=kept,
            next_step="When it answers again, type the same command again.",
        ) from error


def _free_bytes(settings: Settings) -> str:
    return f"{shutil.disk_usage(settings.root).free:,} bytes free"


def connect(settings: Settings) -> RDBStorage:
    """Open the study storage, creating its schema if it is new.

    Raises:
        ServiceError: it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = settings.storage
    try:
        if not storage.startswith("sqlite"):
            # A server that was restarted closed its connections: each is tried before it is used.
            server = Storage(storage, engine_kwargs={"pool_pre_ping": True})
            sqlalchemy.event.listen(server.engine, "do_connect", _connect_patiently)
            return server
        # Two processes that create one schema at once would fail each other. No study has a name
        # that begins with a dot, and so none has this lock.
        settings.work.mkdir(parents=True, exist_ok=True)
        with FileLock(settings.work / ".optuna.lock", timeout=SCHEMA_TIMEOUT_SECONDS):
            options = {"connect_args": {"timeout": SQLITE_PATIENCE_SECONDS}}
            return Storage(storage, engine_kwargs=options)
    except Exception as error:  # whatever the database's driver raises
        if is_disk_full(error):
            raise
        if "locked" in str(error):
            raise BusyError(
                f"Another process has locked the study's database: {masked(first_line(error))}.",
                safe="Nothing was written.",
                next_step="End it, then type the same command again.",
            ) from error
        driver = "Install its driver; for postgresql+psycopg://: pip install 'mnist-lab[postgres]'"
        raise ServiceError(
            f"The study storage cannot be opened: {masked(first_line(error)).rstrip('.')}.",
            next_step=driver if isinstance(error, ImportError) else "Check MNIST_LAB_STORAGE.",
        ) from error
