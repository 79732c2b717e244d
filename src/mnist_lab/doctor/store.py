"""Checks of databases: their schemas, and absolute paths into a folder that was moved."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from mnist_lab.doctor.finding import Finding
from mnist_lab.errors import ServiceError, first_line
from mnist_lab.settings import Settings
from mnist_lab.study import OtherOptunaError
from mnist_lab.tracking.locations import LOCATIONS, former_artifact_roots, sqlite_file
from mnist_lab.tracking.store import schema_problem

_MLFLOW = ("-m", "mlflow", "db", "upgrade")
_OPTUNA = ("-c", "import optuna.cli; exit(optuna.cli.main())", "storage", "upgrade", "--storage")


def check_schema(settings: Settings) -> Iterator[Finding]:
    """Find a database that this MLflow cannot read."""
    file = sqlite_file(settings)
    problem = schema_problem(settings) if file is not None and file.exists() else None
    if file is None or problem is None:
        return
    if problem.upgradable:
        yield Finding(
            subject=str(file),
            problem=problem.text,
            advice="Copies the file, then upgrades it (mlflow db upgrade).",
            repair=lambda: _upgrade(file, *_MLFLOW, settings.tracking_uri),
        )
    else:
        yield Finding(subject=str(file), problem=problem.text, advice=problem.advice)


def describe_other_optuna(error: OtherOptunaError, settings: Settings) -> Finding:
    """Return the finding that another version of Optuna made the study storage."""
    file = error.file
    if file is None:
        return Finding(subject="storage", problem=error.problem, advice=error.next_step)
    return Finding(
        subject=str(file),
        problem=error.problem,
        advice="Copies the file, then upgrades it (optuna storage upgrade).",
        repair=lambda: _upgrade(file, *_OPTUNA, settings.storage),
    )


def check_locations(settings: Settings) -> Iterator[Finding]:
    """Find artifacts that the database seeks in a folder from which they were moved here."""
    file = sqlite_file(settings)
    if file is None or not file.exists():
        return
    for old in sorted(former_artifact_roots(settings)):
        yield Finding(
            subject=str(file),
            problem=f"artifacts are sought in {old}, and lie in {settings.artifact_root}",
            advice="Copies the file, then repairs the locations in it.",
            repair=lambda old=old: _move(file, old, settings.artifact_root),  # type: ignore[misc]
        )


def _move(file: Path, old: Path, new: Path) -> None:
    back_up(file)
    with closing(sqlite3.connect(file)) as database, database:
        for table, column in LOCATIONS:
            for before, after in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                )


def _upgrade(file: Path, *words: str) -> None:
    """Copy a database, then upgrade it by a command of Python, whose output is not shown."""
    back_up(file)
    try:
        subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise ServiceError(
            f"Upgrading {file} failed: {first_line(Exception(error.stderr[-300:]))}.",
            safe="The copy beside it is whole.",
        ) from error


def back_up(file: Path) -> Path:
    """Copy a SQLite file consistently to a file beside it, even while it is written."""
    copy = file.with_name(f"{file.name}.before-{datetime.now():%Y%m%d-%H%M%S-%f}")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy
