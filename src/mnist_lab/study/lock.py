"""One supervisor a study, one decision a model: file locks, and locks in a PostgreSQL of a team."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from mnist_lab.errors import BusyError
from mnist_lab.settings import Settings
from mnist_lab.study import storage
from mnist_lab.study.names import is_safe_name

VERIFY_SECONDS = 1.0
CONNECT_SECONDS = 10
# A machine that lost its power holds a lock until the server notices: by default after two hours.
_KEEPALIVES = "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
LONGEST_NAME = 63  # of an application, to PostgreSQL

_TAKE = sqlalchemy.text("SELECT pg_try_advisory_lock(hashtextextended(:study, 0))")
# PostgreSQL shows a 64-bit key as two halves.
_HOLDER = sqlalchemy.text(
    "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended(:study, 0)"
)


class DatabaseLock:
    """An advisory lock of PostgreSQL named ``key``; the server drops it when this process dies.

    It has a connection of its own: one that went back to a pool would keep the lock. ``busy`` says what
    the holder of the lock does.
    """

    def __init__(self, address: str, key: str, busy: BusyError) -> None:
        self._key = key
        self._busy = busy
        self._name = f"mnist-lab {os.getpid()} on {platform.node()}"[:LONGEST_NAME]
        self._holder = ""
        self._engine = _open_engine(address, application=self._name)
        self._connection: sqlalchemy.Connection | None = None
        self._verified = 0.0

    def take(self) -> None:
        """Take the lock.

        Raises:
            BusyError: another process has it.
            StorageInternalError: the server does not answer.
        """
        try:
            self._connection = self._engine.connect()
            if self._ask(_TAKE):
                return
            self._holder = self._ask(_HOLDER) or "another process"
        except SQLAlchemyError as error:
            raise StorageInternalError("The study's database does not answer.") from error
        self.release()
        raise BusyError(
            f"{self._busy.problem} {self._holder}.",
            safe=self._busy.safe,
            next_step=self._busy.next_step,
        )

    def verify(self) -> None:
        """Check at most once a second that the lock is held; a restarted server has forgotten it.

        Raises:
            BusyError: another process has taken it meanwhile.
            StorageInternalError: the server does not come back.
        """
        if time.monotonic() - self._verified < VERIFY_SECONDS:
            return
        try:
            self._ask(sqlalchemy.text("SELECT 1"))
        except SQLAlchemyError:
            self.release()
            self._take_again()
        self._verified = time.monotonic()

    def _take_again(self) -> None:
        deadline = time.monotonic() + storage.SERVER_PATIENCE_SECONDS
        while True:
            try:
                return self.take()
            except StorageInternalError:
                if time.monotonic() > deadline:
                    raise
            except BusyError:
                # The server may not have noticed yet that this process's own connection broke.
                if self._holder != self._name or time.monotonic() > deadline:
                    raise
            time.sleep(storage.SERVER_PAUSE_SECONDS)

    def release(self) -> None:
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None
        self._engine.dispose()

    def _ask(self, query: sqlalchemy.TextClause) -> Any:
        assert self._connection is not None
        given = {"study": self._key} if ":study" in query.text else {}
        return self._connection.execute(query, given).scalar()


class StudyLock:
    """What is held of a study or a model; ``database`` is None for a file on this machine."""

    def __init__(self, database: DatabaseLock | None = None) -> None:
        self._database = database

    def verify(self) -> None:
        """Check that it is still locked; see ``DatabaseLock.verify``."""
        if self._database is not None:
            self._database.verify()


def is_locked(settings: Settings, name: str) -> bool:
    """Return whether a supervisor has locked the study, on this machine or by its database."""
    if not is_safe_name(name):
        return False
    if (settings.work / f"{name}.lock").exists():
        try:
            with _lock_file(settings.work, name):
                pass
        except BusyError:
            return True
    return _is_shared(settings) and _find_holder(settings, name)


@contextmanager
def lock_study(settings: Settings, name: str) -> Iterator[StudyLock]:
    """Lock a study for its only supervisor; the lock ends with the process.

    Raises:
        BusyError: another process has locked it.
        StorageInternalError: the study's database does not answer.
    """
    with _lock_file(settings.work, name):
        if not _is_shared(settings):
            yield StudyLock()
            return
        database = DatabaseLock(settings.storage, _key(name), _being_swept(name))
        try:
            database.take()
            yield StudyLock(database)
        finally:
            database.release()


@contextmanager
def lock_model(settings: Settings, name: str) -> Iterator[StudyLock]:
    """Lock a registered model against other decisions, on this machine and in a team's database.

    Raises:
        BusyError: another command has locked it.
        StorageInternalError: the database does not answer.
    """
    settings.work.mkdir(parents=True, exist_ok=True)
    busy = BusyError(
        f"{name} is decided about just now by",
        safe="Nothing was written.",
        next_step="Type it again when that one has ended.",
    )
    slug = re.sub(r"[^\w.-]", "-", name)
    try:
        with FileLock(settings.work / f"model-{slug}.lock", timeout=0), ExitStack() as held:
            if not _is_shared(settings):
                yield StudyLock()
                return
            database = DatabaseLock(settings.storage, f"mnist-lab model {name}", busy)
            held.callback(database.release)
            database.take()
            yield StudyLock(database)
    except Timeout:
        raise BusyError(
            f"{busy.problem} another command.", safe=busy.safe, next_step=busy.next_step
        ) from None


@contextmanager
def _lock_file(folder: Path, name: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / f"{name}.pid"
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text() if holder.exists() else "unknown"
        busy = _being_swept(name)
        raise BusyError(
            f"{busy.problem} process {who}.", safe=busy.safe, next_step=busy.next_step
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _is_shared(settings: Settings) -> bool:
    """Whether other machines may have the study's storage, and it can hold a lock for them."""
    return settings.storage.startswith("postgresql")


def _find_holder(settings: Settings, name: str) -> bool:
    engine = _open_engine(settings.storage, application="mnist-lab")
    try:
        with engine.connect() as connection:
            return connection.execute(_HOLDER, {"study": _key(name)}).scalar() is not None
    except SQLAlchemyError:
        return False  # who reads the study will say that its database is away
    finally:
        engine.dispose()


def _being_swept(study: str) -> BusyError:
    return BusyError(
        f"Study {study!r} is being swept by",
        safe="It goes on.",
        next_step="Wait for it, or stop it with Ctrl-C in its terminal.",
    )


def _key(study: str) -> str:
    return f"mnist-lab study {study}"


def _open_engine(address: str, *, application: str) -> sqlalchemy.Engine:
    options: dict[str, Any] = {"application_name": application}
    if "psycopg" in sqlalchemy.make_url(address).get_driver_name():  # libpq's words
        options |= {"connect_timeout": CONNECT_SECONDS, "options": _KEEPALIVES}
    return sqlalchemy.create_engine(
        address,
        poolclass=sqlalchemy.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=options,
    )
