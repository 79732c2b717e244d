"""The MLflow store: found, checked, and created once, before the first record is written."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# MLflow's own seven retries take four minutes, and repeat requests whose answer was lost: a run would
# be made twice. What fails is repeated by the tracker writer, which looks first.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.version import VERSION
from sqlalchemy.exc import SQLAlchemyError

from mnist_lab.errors import ConfigurationError, ServiceError, first_line, masked
from mnist_lab.settings import Settings
from mnist_lab.tracking.locations import refuse_moved_home, sqlite_file

SCHEMA_TIMEOUT_SECONDS = 120


def open_client(settings: Settings) -> MlflowClient:
    """Return a client of the tracking store, creating the SQLite file's schema if need be.

    MLflow creates the schema by running all its migrations without a lock (3 to 6 s): two processes
    that start at once would race, hence the file lock.

    Raises:
        ConfigurationError: an old file store is in the way, the schema is of another version, or the
            home was moved.
        ServiceError: the tracking server does not answer, or refuses the credentials.
    """
    for name in (
        "alembic",
        "mlflow.store.db.utils",
        "mlflow.store.model_registry",
        "mlflow.tracking",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    _refuse_file_store(settings)
    uri = settings.tracking_uri
    try:
        if uri.startswith("sqlite"):
            settings.work.mkdir(parents=True, exist_ok=True)
            with FileLock(settings.work / ".mlflow.lock", timeout=SCHEMA_TIMEOUT_SECONDS):
                file = sqlite_file(settings)
                if file is not None and not file.exists():
                    # Or the experiment "Default" would have its artifacts in the current folder.
                    SqlAlchemyStore(uri, settings.artifact_root.as_uri())
                client = _connected(uri)
            refuse_moved_home(settings)
            return client
        return _connected(uri)
    except (MlflowException, SQLAlchemyError) as error:
        problem = schema_problem(settings)
        if problem is not None:
            raise ConfigurationError(
                f"{masked(problem.text)}.", safe="Nothing was written.", next_step=problem.advice
            ) from error
        raise _not_served(uri, error) from error


def _not_served(uri: str, error: Exception) -> ServiceError:
    """Say why a store cannot be used: credentials, the server's list of hosts, or no answer."""
    said, safe = masked(first_line(error)), "Nothing was written."
    if "Host header" in said:
        problem = f"The tracking server does not answer to the name in {masked(uri)}."
        advice = "Start it with that name among its --allowed-hosts."
    elif _status(error) in (401, 403):
        problem = f"The tracking server {masked(uri)} refuses the credentials ({_status(error)})."
        advice = (
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    else:
        problem = f"The tracking store does not answer: {said}"
        advice = "Check MLFLOW_TRACKING_URI."
    return ServiceError(problem, safe=safe, next_step=advice)


def _status(error: Exception) -> int | None:
    """The HTTP status that a server answered with, if the error says so."""
    stated = re.search(r"failed with error code (\d{3})", str(error))
    if stated:
        return int(stated[1])
    return error.get_http_status_code() if isinstance(error, MlflowException) else None


@dataclass(frozen=True, kw_only=True)
class SchemaProblem:
    """A database of another version of MLflow; ``upgradable`` if it is an older one."""

    text: str
    advice: str
    upgradable: bool


def schema_problem(settings: Settings) -> SchemaProblem | None:
    """Return the problem of the SQLite file's schema; None if there is none, or no schema."""
    file = sqlite_file(settings)
    if file is None or not file.exists():
        return None
    with closing(sqlite3.connect(file)) as database:
        try:
            found = [row[0] for row in database.execute("SELECT version_num FROM alembic_version")]
        except sqlite3.DatabaseError:
            return None
    if not found or found[0] == _expected_schema():
        return None
    said = f"{file} has schema {found[0]}, and MLflow {VERSION} needs {_expected_schema()}"
    if any(found[0] in each.name for each in _migrations()):
        copy = f"Copy the file, then type: mlflow db upgrade {settings.tracking_uri}"
        return SchemaProblem(
            text=said, advice=f"{copy} (mnist-lab doctor --repair does both)", upgradable=True
        )
    newer = "A newer MLflow made it: install that one, or type the command in another folder"
    return SchemaProblem(text=said, advice=newer, upgradable=False)


def _migrations() -> list[Path]:
    return list(
        (Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions").glob("*.py")
    )


@cache
def _expected_schema() -> str:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return str(scripts.get_current_head())


def artifact_location(settings: Settings, experiment: str) -> str | None:
    """Return the location of a new experiment's artifacts: below ``mlruns/`` for a database.

    Absolute, because MLflow would otherwise take the folder that the command was typed in. None for
    a server or a file store, which have their own artifact root.
    """
    if re.split(r"[+:]", settings.tracking_uri)[0] not in DATABASE_ENGINES:
        return None
    return (settings.artifact_root / experiment.replace("/", "-")).as_uri()


def _connected(uri: str) -> MlflowClient:
    _make_default(uri)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _make_default(uri: str) -> None:
    """Have MLflow itself use the store: its registry on SQLite asks a client without a URI.

    MLflow writes both URIs into the environment too, where the next ``Settings`` of this process
    would take them for the user's own.
    """
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _refuse_file_store(settings: Settings) -> None:
    old = next(settings.artifact_root.glob("[0-9]*/meta.yaml"), None)
    if old is not None and settings.tracking_uri_override is None:
        raise ConfigurationError(
            f"{settings.artifact_root} holds an old MLflow file store ({old}).",
            safe="Nothing was written.",
            next_step="Type: mlflow migrate-filestore --help, or start in another folder.",
        )
