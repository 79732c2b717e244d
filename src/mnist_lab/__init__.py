"""Declare a search space once, sweep it with Optuna, see it in MLflow, promote the best.

    import mnist_lab as lab

    study = lab.sweep("cnn", trials=10, epochs=3)  # run the cell again: it resumes
    study                                          # a notebook shows the leaderboard
    study.best.params, study.frame(), study.report()
    study.confirm().promote()
    lab.load_model("mnist-cnn@champion").predict(images)

Importing this imports neither Keras nor MLflow.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_lab.api import Model, Study
    from mnist_lab.data import Dataset
    from mnist_lab.settings import Settings

# Nothing leaves the machine by default. Here, because MLflow reads it while it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# Optuna imports tqdm, which asks for ipywidgets in a notebook; nothing here needs them.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
__all__ = ["load_dataset", "load_model", "open_study", "studies", "sweep"]


def sweep(space: object, *, home: str | Path | None = None, **options: Any) -> Study:
    """Run a study, or go on with it: the same call again continues to the total of ``trials``.

    Args:
        space: ``"cnn"``, ``"fnn-v1"``, ``"file.py:NAME"``, or a function, class or space that lies in
            a file. What is defined in a notebook's cell cannot be imported by workers: write it to a
            file with ``%%writefile``.
        home: the folder of databases and models; ``MNIST_LAB_HOME`` or the current one by default.
        options: every field of ``mnist_lab.config.SweepConfig``, as ``mnist-lab sweep --help`` lists
            them: ``trials``, ``epochs``, ``dataset``, ``workers``, ``set={"dropout": 0.1}``, …

    Raises:
        MnistLabError: whatever is wrong, before anything is trained; its message says what to do.
    """
    from mnist_lab.api import sweep_space

    return sweep_space(space, _settings(home), **options)


def open_study(name: str | None = None, *, home: str | Path | None = None) -> Study:
    """Open a study by its name; the one that was begun last without a name.

    Raises:
        UnknownNameError: there is none.
    """
    from mnist_lab.api import Study
    from mnist_lab.report import latest_study
    from mnist_lab.study import open_study as open_ledger

    settings = _settings(home)
    return Study(open_ledger(settings, name or latest_study(settings)).name, settings)


def studies(*, home: str | Path | None = None) -> list[Study]:
    """List the studies of the home, oldest first."""
    from mnist_lab.api import Study
    from mnist_lab.report import list_studies

    settings = _settings(home)
    return [Study(row.study, settings) for row in list_studies(settings)]


def load_model(reference: str, *, home: str | Path | None = None) -> Model:
    """Load a registered model, ``MODEL@ALIAS`` or ``MODEL/VERSION``; its file is checked first.

    Raises:
        UsageError, UnknownNameError, DataError: there is none, or its file is not safe.
    """
    from mnist_lab.api import Model

    return Model.load(reference, _settings(home))


def load_dataset(name_or_path: str = "mnist", **options: Any) -> Dataset:
    """Load training and validation images as a sweep does; see ``mnist_lab.data.load_dataset``."""
    from mnist_lab.data import load_dataset as load

    return load(name_or_path, **options)


def _settings(home: str | Path | None) -> Settings:
    from mnist_lab.settings import Settings

    return Settings() if home is None else Settings(home=Path(home))


class _SweepRoom(ModuleType):
    """The package ``mnist_lab.sweep``: once imported, Python puts it in the function's place."""

    __call__ = staticmethod(sweep)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        if name == "sweep" and isinstance(value, ModuleType):
            value.__class__ = _SweepRoom
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
