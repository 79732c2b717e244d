"""Where things live: the project's folder, the MLflow store, the Optuna storage, the data sets.

Everything has a default inside one folder, ``home``, laid out as MLflow itself lays it out, so that
plain ``mlflow ui`` typed in that folder shows every run. Environment variables override the
defaults, and MLflow's own ``MLFLOW_TRACKING_URI`` is honoured.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Resolved once per command; every path in it is absolute.

    A relative SQLite URI would make a second, empty database for whoever starts the next command
    from a subfolder, hence the absolute forms below.
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
        """The MLflow tracking URI; ``sqlite:///<home>/mlflow.db`` unless told otherwise."""
        return self.tracking_uri_override or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def tracks_locally(self) -> bool:
        """Whether the tracking store is a database, opened by this process, and not a server."""
        return not self.tracking_uri.startswith("http")

    @property
    def artifact_root(self) -> Path:
        """Where MLflow puts artifacts when the store is the SQLite file in ``home``."""
        return self.root / "mlruns"

    @property
    def storage(self) -> str:
        """The Optuna storage URL; ``sqlite:///<home>/optuna.db`` unless told otherwise."""
        return self.storage_override or f"sqlite:///{self.root / 'optuna.db'}"

    @property
    def work(self) -> Path:
        """Locks, and what studies still need: interrupted trials' checkpoints, untracked artifacts."""
        return self.root / ".mnist-lab"

    @property
    def data_folder(self) -> Path:
        """Where downloaded data sets are kept."""
        return (self.data_override or self.root / "data").expanduser().resolve()
