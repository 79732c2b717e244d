"""Models and Keras callbacks of the arms that call ``model.fit`` themselves."""

from __future__ import annotations

import math
import time
from pathlib import Path

import keras
import numpy as np
from common import note_epoch

from mnist_lab.training.schedule import OneCycle
from mnist_lab.training.train import shift_images


def prepare(model: keras.Model, params: dict, images: np.ndarray, epochs: int) -> keras.Model:
    """Do for a built ``model`` what its space leaves to the trainer, in its place: normalisation,
    and a learning rate that goes through one cycle in ``epochs``."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt(images)
    if params.get("schedule") == "one_cycle":
        steps = epochs * math.ceil(len(images) / params["batch_size"])
        model.optimizer.learning_rate = OneCycle(params["learning_rate"], steps)
    return model


def fit(model: keras.Model, params: dict, x: np.ndarray, y: np.ndarray, **options):
    """``model.fit`` in batches of ``batch_size``, with images that are shifted where that is asked."""
    batch, shift = params["batch_size"], params.get("shift", 0)
    if shift:
        return model.fit(Shifted(x, y, batch=batch, shift=shift), **options)
    return model.fit(x, y, batch_size=batch, **options)


class Shifted(keras.utils.PyDataset):
    """Batches in a new order each epoch, each image moved by up to ``shift`` pixels."""

    def __init__(self, x: np.ndarray, y: np.ndarray, *, batch: int, shift: int) -> None:
        super().__init__()
        self.x, self.y, self.batch, self.shift = x, y, batch, shift
        self.random = np.random.default_rng(np.random.randint(2**31))  # as the trial is seeded
        self.on_epoch_end()

    def __len__(self):
        return math.ceil(len(self.x) / self.batch)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        return shift_images(self.x[chosen], self.shift, self.random), self.y[chosen]

    def on_epoch_end(self):
        self.order = self.random.permutation(len(self.x))


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
