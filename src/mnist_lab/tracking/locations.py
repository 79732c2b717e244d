"""Where MLflow's SQLite file seeks artifacts: absolute locations, which a moved home leaves behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.request import url2pathname

from mnist_lab.errors import ConfigurationError
from mnist_lab.settings import SQLITE_URI, Settings

# Every column in which MLflow 3.17 keeps an absolute location.
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def sqlite_file(settings: Settings) -> Path | None:
    """Return the tracking store's file; None for a server or another database."""
    found = SQLITE_URI.fullmatch(settings.tracking_uri)
    return Path(found["path"]) if found else None


def local_path(uri: str) -> Path | None:
    """Return the path behind a ``file:`` URI or a bare path; None for anything elsewhere."""
    if uri.startswith("file://"):
        return Path(url2pathname(uri.removeprefix("file://")))
    return None if "://" in uri else Path(uri)


def former_artifact_roots(
    settings: Settings, locations: Sequence[tuple[str, str]] = LOCATIONS
) -> set[Path]:
    """Find artifact roots whose files are missing there, and lie below ``settings.artifact_root``."""
    file, root = sqlite_file(settings), settings.artifact_root
    former = set()
    with closing(sqlite3.connect(str(file))) as database:
        for table, column in locations:
            query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608
            for (location,) in database.execute(query):
                path = local_path(location)
                if path is None or path.exists() or root.name not in path.parts:
                    continue
                cut = len(path.parts) - path.parts[::-1].index(root.name)
                found, tail = Path(*path.parts[:cut]), path.parts[cut:]
                if found != root and tail and root.joinpath(*tail).exists():
                    former.add(found)
    return former


def refuse_moved_home(settings: Settings) -> None:
    """Refuse to write artifacts to the folder from which this home was moved.

    Raises:
        ConfigurationError: the database seeks the experiments' artifacts in that folder.
    """
    file = sqlite_file(settings)
    if file is None or not file.exists():
        return
    for former in sorted(former_artifact_roots(settings, LOCATIONS[:1])):
        raise ConfigurationError(
            f"This home was moved: MLflow seeks artifacts in {former}, and they lie in "
            f"{settings.artifact_root}.",
            safe="Nothing was written.",
            next_step="Type: mnist-lab doctor --repair",
        )
