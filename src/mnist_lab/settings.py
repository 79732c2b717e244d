"""The locations of the home folder, the MLflow store, the Optuna storage and the data sets.

Everything has a default inside one folder, ``home``, laid out as MLflow itself lays it out, so that
plain ``mlflow ui`` typed in that folder shows every run. Environment variables override the
defaults, and MLflow's own ``MLFLOW_TRACKING_URI`` is honoured.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# SQLAlchemy's address of a SQLite file: ``sqlite:///``, the path, and options.
SQLITE_URI = re.compile(r"(?P<scheme>sqlite(?:\+\w+)?:///)(?P<path>[^?]*)(?P<options>(?:\?.*)?)")

_WORDS = ("databricks", "databricks-uc", "uc")  # tracking URIs that look like paths


class Settings(BaseSettings):
    """The paths and addresses that a command uses, all absolute.

    A relative one is resolved against ``home``, not the current folder: it would name a second, empty
    database for whoever starts the next command from a subfolder.
    """

    model_config = SettingsConfigDict(env_prefix="MNIST_LAB_", frozen=True, populate_by_name=True)

    home: Path = Field(default_factory=Path.cwd)
    tracking_uri_override: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MNIST_LAB_TRACKING_URI", "MLFLOW_TRACKING_URI"),
    )
    storage_override: str | None = Field(
        default=None, validation_alias=AliasChoices("MNIST_LAB_STORAGE")
    )
    data_override: Path | None = Field(
        default=None, validation_alias=AliasChoices("MNIST_LAB_DATA")
    )

    precision: str = "auto"  # of the products of a training step: see ``training/precision.py``

    @property
    def root(self) -> Path:
        return self.home.expanduser().resolve()

    @property
    def tracking_uri(self) -> str:
        """The MLflow tracking URI; ``sqlite:///<home>/mlflow.db`` by default."""
        uri = self.tracking_uri_override or "sqlite:///mlflow.db"
        if "://" in uri or uri.split(":")[0] in _WORDS:
            return self._anchor(uri)
        return (self.root / Path(uri.removeprefix("file:")).expanduser()).as_uri()

    @property
    def tracks_locally(self) -> bool:
        """Whether the tracking store is a database, opened by this process, and not a server."""
        return not self.tracking_uri.startswith("http")

    @property
    def artifact_root(self) -> Path:
        """The folder of MLflow's artifacts when the tracking store is a database."""
        return self.root / "mlruns"

    @property
    def storage(self) -> str:
        """The Optuna storage URL; ``sqlite:///<home>/optuna.db`` by default."""
        return self._anchor(self.storage_override or "sqlite:///optuna.db")

    @property
    def work(self) -> Path:
        """The folder of locks, interrupted trials' checkpoints, and artifacts not yet tracked."""
        return self.root / ".mnist-lab"

    @property
    def data_folder(self) -> Path:
        """The folder of downloaded data sets."""
        return (self.root / (self.data_override or Path("data")).expanduser()).resolve()

    @property
    def exports(self) -> Path:
        """The folder of models exported to other formats, unless ``--out`` names another."""
        return self.root / "exports"

    @property
    def reports(self) -> Path:
        """The folder of HTML reports."""
        return self.root / "reports"

    def _anchor(self, uri: str) -> str:
        """Make the address of a SQLite file absolute, resolved against ``home``."""
        found = SQLITE_URI.fullmatch(uri)
        if found is None or found["path"] in ("", ":memory:") or found["path"].startswith("file:"):
            return uri
        return f"{found['scheme']}{self.root / Path(found['path']).expanduser()}{found['options']}"
