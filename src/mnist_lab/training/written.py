"""Training by the author's own ``HyperModel.fit``: called once, followed epoch by epoch.

Its loop, its callbacks and its batches are its own. It is given a callback that reports each epoch and
waits for the answer, and that leaves the training when the supervisor says so.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from mnist_lab.data import Split
from mnist_lab.errors import ConfigurationError
from mnist_lab.training.checkpoints import Checkpoints
from mnist_lab.training.epochs import (
    Diverged,
    EpochMetrics,
    History,
    Report,
    as_measured,
    is_better,
)
from mnist_lab.training.form import Fit, ModelForm
from mnist_lab.training.precision import FLOAT32
from mnist_lab.training.state import read_checkpoint_into, take_checkpoint
from mnist_lab.training.train import MEASURED_IMAGES, TrainingPlan, score


class _BeganAgain(Exception):
    """The author's loop begins at its first epoch, whatever ``initial_epoch`` says."""


def train_as_written(
    fit: Fit,
    build: Callable[[], tuple[keras.Model, keras.Model]],
    *,
    training: Split,
    validation: Split,
    classes: int,
    plan: TrainingPlan,
    form: ModelForm,
    report: Report,
    checkpoints: Checkpoints | None,
) -> tuple[History, keras.Model, keras.Model]:
    """Train a model of ``build`` by ``fit``, and leave it with the weights of its best epoch.

    Returns the history, the model, and the model with pixels in and probabilities out, which ``build``
    makes as a pair. A training that was left goes on with ``initial_epoch``; where the author's loop
    does not heed that, it begins again.

    Raises:
        Diverged: the loss of an epoch is not finite.
        ConfigurationError: ``fit`` never calls its callbacks.
    """
    for resume in (True, False):
        model, whole = build()
        keras.utils.set_random_seed(plan.seed)
        follower = _Follower(model, whole, training, validation, form, report, checkpoints)
        began = follower.restore() if resume else 0
        options = {
            "epochs": plan.epochs,
            "validation_data": _batch(validation, form, classes),
            "callbacks": [follower],
            "verbose": 0,
            **({"initial_epoch": began} if began else {}),
        }
        try:
            if began < plan.epochs:
                fit(model, *_batch(training, form, classes), **_accepted(fit, options))
        except _BeganAgain:
            continue
        break
    if not follower.epochs:
        raise ConfigurationError(_NO_CALLBACKS)
    model.set_weights(follower.best_weights)
    return History(epochs=tuple(follower.epochs), precision=FLOAT32), model, whole


_NO_CALLBACKS = (
    "HyperModel.fit never calls the callbacks that it is given: pass callbacks to model.fit, or call "
    "on_epoch_end of each."
)


def try_fit(fit: Fit, model: keras.Model, batch: tuple[Any, Any]) -> dict[str, Any]:
    """One epoch on one batch; what the author's loop reports of it.

    Raises:
        ConfigurationError: it reports no epoch, or sets the number of epochs itself.
    """
    listener = _Listener()
    listener.set_model(model)
    images = np.asarray(keras.ops.convert_to_numpy(batch[0]))
    options = {
        "epochs": 1,
        "validation_data": (images, batch[1]),
        "callbacks": [listener],
        "verbose": 0,
    }
    try:
        fit(model, images, batch[1], **_accepted(fit, options))
    except TypeError as error:
        if "multiple values for keyword argument" in str(error):
            name = str(error).rpartition(" ")[2]
            raise ConfigurationError(
                f"HyperModel.fit sets {name} itself, and mnist-lab decides that.",
                next_step="Let it pass on what is in kwargs.",
            ) from error
        raise
    if listener.logs is None:
        raise ConfigurationError(_NO_CALLBACKS)
    return listener.logs


def _batch(split: Split, form: ModelForm, classes: int) -> tuple[Any, Any]:
    images = keras.ops.convert_to_numpy(form.feed(split.images))
    return np.asarray(images), form.label(split.labels, classes)


def _accepted(fit: Fit, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that ``fit`` has a place for."""
    parameters = inspect.signature(fit).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return dict(options)
    names = {each.name for each in parameters}
    return {name: value for name, value in options.items() if name in names}


class _Listener(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.logs = dict(logs or {})


class _Follower(keras.callbacks.Callback):  # type: ignore[misc]
    """Measures, keeps and reports each epoch of somebody else's loop."""

    def __init__(
        self,
        model: keras.Model,
        whole: keras.Model,
        training: Split,
        validation: Split,
        form: ModelForm,
        report: Report,
        checkpoints: Checkpoints | None,
    ) -> None:
        super().__init__()
        self.set_model(model)
        self._trained = model
        self._whole = whole
        self._splits = training, validation
        self._form = form
        self._report = report
        self._checkpoints = checkpoints
        self._resumed = 0
        self._began = time.perf_counter()
        self.epochs: list[EpochMetrics] = []
        self.best_weights: list[Any] = []

    def restore(self) -> int:
        """Go on from the newest checkpoint; returns how many epochs it has."""
        found = read_checkpoint_into(self._trained, self._checkpoints)
        if found is None:
            return 0
        self.epochs, self.best_weights, _ = found
        self._resumed = len(self.epochs)
        self._report(tuple(self.epochs))
        return self._resumed

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._resumed and epoch < self._resumed == len(self.epochs):
            raise _BeganAgain
        now = self._measure(dict(logs or {}))
        if not now.possible:
            raise Diverged(now.epoch)
        if is_better(now, self.epochs):
            self.best_weights = self._trained.get_weights()
        self.epochs.append(now)
        if self._checkpoints is not None:
            state = take_checkpoint(self._trained, self.epochs, self.best_weights, FLOAT32)
            self._checkpoints.save(state)
        self._report(tuple(self.epochs))
        self._began = time.perf_counter()

    def _measure(self, logs: dict[str, Any]) -> EpochMetrics:
        seconds = time.perf_counter() - self._began
        training, validation = self._splits
        key = self._form.accuracy
        if not (key in logs and "loss" in logs):
            part = slice(0, MEASURED_IMAGES)
            logs |= score(self._whole, training.images[part], training.labels[part])
            key = "accuracy"
        val_key = f"val_{self._form.accuracy}"
        if not (self._form.validates and val_key in logs and "val_loss" in logs):
            found = score(self._whole, validation.images, validation.labels)
            logs |= {f"val_{name}": value for name, value in found.items()}
            val_key = "val_accuracy"
        values = {
            "loss": logs["loss"],
            "accuracy": logs[key],
            "val_loss": logs["val_loss"],
            "val_accuracy": logs[val_key],
        }
        return as_measured(len(self.epochs) + 1, values, seconds)
