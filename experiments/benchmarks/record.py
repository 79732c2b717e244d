"""Keras callbacks of the arms that call ``model.fit`` themselves."""

from __future__ import annotations

import time
from pathlib import Path

import keras
from common import note_epoch


class RecordEpochs(keras.callbacks.Callback):
    """A line in epochs.jsonl for every epoch.

    First in the list: its seconds are those of training and validation, and what later callbacks do
    with MLflow or a model file counts as overhead.
    """

    def __init__(self, home: Path, trial: str | int) -> None:
        super().__init__()
        self.home = home
        self.trial = str(trial)
        self.best = 0.0  # validation accuracy

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.began
        value = float(logs["val_accuracy"])
        self.best = max(self.best, value)
        note_epoch(self.home, self.trial, epoch + 1, value, seconds)


class LogEpochs(keras.callbacks.Callback):
    """Each epoch's metrics in the active MLflow run: what is usually written by hand."""

    def on_epoch_end(self, epoch, logs=None):
        import mlflow

        mlflow.log_metrics({name: float(value) for name, value in logs.items()}, step=epoch + 1)


class KeepBest(keras.callbacks.Callback):
    """Save the model whenever it is the best of the whole search: one instance for all trials."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.best = 0.0

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_accuracy"] > self.best:
            self.best = float(logs["val_accuracy"])
            self.model.save(self.path)
