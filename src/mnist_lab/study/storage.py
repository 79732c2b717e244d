"""The study's storage: opened, and its errors translated to one line."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage

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
from mnist_lab.study._optuna import NOT_FOUND, Storage

SCHEMA_TIMEOUT_SECONDS = 120
SQLITE_PATIENCE_SECONDS = 60  # another process may hold the file: wait so long before giving up
SERVER_PATIENCE_SECONDS = 60  # a database server that is restarted is back within seconds
SERVER_PAUSE_SECONDS = 0.5

# Storages whose schema was found to be this Optuna's. To look again costs most of the time of opening,
# and a promotion opens its studies some thirty times.
_compatible: set[str] = set()
# Words of Optuna's error about a schema; the latter if it can be upgraded.
_INCOMPATIBLE, _UPGRADE = "no longer compatible with the table schema", "optuna storage upgrade"


def _write_ahead(connection: Any, _: Any) -> None:
    """Write commits ahead to ``optuna.db-wal``: they wait for one write to the disk, not for three.

    Beside workers that write checkpoints a trial costs 580 ms instead of 1,113 (median, n=18,
    experiments/LOG.md). ``synchronous=FULL`` keeps every commit through a power cut, as before.
    """
    # A reader may hold the database just now: then the next connection sets the mode.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


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


def require_writable(settings: Settings) -> None:
    """Raise an error for a folder that cannot be written, before anything is trained.

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
    """Translate an error of the study's storage, or of the disk, to one line.

    Raises:
        DiskFullError, BusyError, ServiceError
    """
    kept = "Every finished trial and every checkpoint before is kept."
    try:
        yield
    except KeyError as error:
        if error.args != (NOT_FOUND,):
            raise
        raise ServiceError(
            "The study, or some of its trials, was deleted while it was swept.",
            safe="Everything logged to MLflow before is kept.",
            next_step="The same command again begins it anew.",
        ) from error
    except UpdateFinishedTrialError as error:
        raise BusyError(
            "Another process has finished a trial of this study that this sweep was training.",
            safe=kept,
            next_step="When the other has ended, type the same command again.",
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


class OtherOptunaError(ConfigurationError):
    """The study storage has the schema of another version of Optuna.

    ``file`` is that of an older one, which Optuna can upgrade; None if there is none.
    """

    def __init__(self, settings: Settings, *, is_older: bool) -> None:
        url = sqlalchemy.make_url(settings.storage)
        name = url.database if is_older and url.get_backend_name() == "sqlite" else None
        self.file = Path(name) if name else None
        next_step = "Install that one, or type the command in another folder."
        if is_older:
            command = 'optuna storage upgrade --storage "$MNIST_LAB_STORAGE"'
            next_step = f"Copy the database, then type: {command}"
        if self.file:
            next_step = "To copy its file and upgrade it, type: mnist-lab doctor --repair"
        super().__init__(
            f"{'An older' if is_older else 'A newer'} Optuna than {optuna.__version__} made the study "
            f"storage {masked(settings.storage)}.",
            safe="Nothing was changed.",
            next_step=next_step,
        )


def connect(settings: Settings, kind: type[Storage] = Storage) -> RDBStorage:
    """Open the study storage as a ``kind`` of it, creating its schema if it is new.

    Raises:
        OtherOptunaError: another version of Optuna made it.
        ServiceError: it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = settings.storage
    try:
        if not storage.startswith("sqlite"):
            # A server that was restarted closed its connections: each is tried before it is used.
            server = _open(kind, storage, {"pool_pre_ping": True})
            sqlalchemy.event.listen(server.engine, "do_connect", _connect_patiently)
            return server
        # Two processes that create one schema at once would fail each other. No study has a name
        # that begins with a dot, and so none has this lock.
        settings.work.mkdir(parents=True, exist_ok=True)
        with FileLock(settings.work / ".optuna.lock", timeout=SCHEMA_TIMEOUT_SECONDS):
            opened = _open(kind, storage, {"connect_args": {"timeout": SQLITE_PATIENCE_SECONDS}})
            sqlalchemy.event.listen(opened.engine, "connect", _write_ahead)
            opened.engine.dispose()  # the connection that made the schema was opened without it
            return opened
    except Exception as error:  # whatever the database's driver raises
        if is_disk_full(error):
            raise
        if "locked" in str(error):
            raise BusyError(
                f"Another process has locked the study's database: {masked(first_line(error))}.",
                safe="Nothing was written.",
                next_step="End it, then type the same command again.",
            ) from error
        if _INCOMPATIBLE in str(error):
            raise OtherOptunaError(settings, is_older=_UPGRADE in str(error)) from error
        driver = "Install its driver; for postgresql+psycopg://: pip install 'mnist-lab[postgres]'"
        raise ServiceError(
            f"The study storage cannot be opened: {masked(first_line(error)).rstrip('.')}.",
            next_step=driver if isinstance(error, ImportError) else "Check MNIST_LAB_STORAGE.",
        ) from error


def _open(kind: type[Storage], url: str, options: dict[str, Any]) -> Storage:
    opened = kind(url, engine_kwargs=options, skip_compatibility_check=url in _compatible)
    _compatible.add(url)
    # Optuna leaves its connections to the garbage collector, and a server has a limited number.
    weakref.finalize(opened, opened.engine.dispose).atexit = False
    return opened
