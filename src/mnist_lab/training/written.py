"""Training by the author's own ``HyperModel.fit``: called once, followed epoch by epoch.

Its loop, its callbacks and its batches are its own, and so is what they remember: an ``EarlyStopping``
counts, a learning rate was lowered. No checkpoint has that. So a training that was left begins again
from its first epoch, with the same seed, and ends as it would have without.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import keras

from mnist_lab.data import Split
from mnist_lab.errors import ConfigurationError
from mnist_lab.training.epochs import (
    Diverged,
    EpochMetrics,
    History,
    Report,
    as_measured,
    is_better,
)
from mnist_lab.training.find_labels import Fit
from mnist_lab.training.form import ModelForm
from mnist_lab.training.precision import FLOAT32
from mnist_lab.training.train import MEASURED_IMAGES, TrainingPlan, score

_NO_CALLBACKS = ConfigurationError(
    "HyperModel.fit never calls the callbacks that it is given.",
    next_step="Pass callbacks to model.fit, or call on_epoch_end of each after every epoch.",
)


def train_as_written(
    fit: Fit,
    model: keras.Model,
    whole: keras.Model,
    *,
    training: Split,
    validation: Split,
    classes: int,
    plan: TrainingPlan,
    form: ModelForm,
    report: Report,
) -> History:
    """Train ``model`` by ``fit``; leave it with the weights of its best epoch, or as ``fit`` left it.

    Args:
        fit: called as KerasTuner calls it, ``(model, x, y, epochs=, validation_data=, callbacks=)``.
        model: as its author built it.
        whole: ``model`` with pixels in and probabilities out, sharing its weights.
        training, validation, classes, plan, form, report: as ``train``.

    Raises:
        Diverged: the loss of an epoch is not finite.
        ConfigurationError: ``fit`` never calls its callbacks.
    """
    keras.utils.set_random_seed(plan.seed)
    follower = _Follower(model, whole, training, validation, form, report, plan)
    options = {
        "epochs": plan.epochs,
        "validation_data": _batch(validation, form, classes),
        "callbacks": [follower],
        "verbose": 0,
    }
    with suppress(_Enough):
        fit(model, *_batch(training, form, classes), **_accepted(fit, options))
    if follower.diverged is not None:  # the author's loop may have caught it
        raise follower.diverged
    if not follower.epochs:
        raise _NO_CALLBACKS
    if not plan.keeps_last:
        model.set_weights(follower.best_weights)
    return History(epochs=tuple(follower.epochs), precision=FLOAT32, keeps_last=plan.keeps_last)


def try_fit(fit: Fit, model: keras.Model, batch: tuple[Any, Any]) -> dict[str, Any]:
    """Train one epoch on one batch by ``fit``; return the metrics that the author's loop reports.

    Raises:
        ConfigurationError: it reports no epoch, or sets the number of epochs itself.
    """
    logs: list[dict[str, Any]] = []
    listener = _Listener(logs.append)
    listener.set_model(model)
    options = {"epochs": 1, "validation_data": batch, "callbacks": [listener], "verbose": 0}
    try:
        fit(model, *batch, **_accepted(fit, options))
    except TypeError as error:
        if "multiple values for keyword argument" in str(error):
            name = str(error).rpartition(" ")[2]
            raise ConfigurationError(
                f"HyperModel.fit sets {name} itself, and mnist-lab decides that.",
                next_step="Let it pass on what is in kwargs.",
            ) from error
        raise
    if not logs:
        raise _NO_CALLBACKS
    return logs[-1]


def _batch(split: Split, form: ModelForm, classes: int) -> tuple[Any, Any]:
    return form.array(split.images), form.label(split.labels, classes)


def _accepted(fit: Fit, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that ``fit`` has a place for."""
    parameters = inspect.signature(fit).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return dict(options)
    names = {each.name for each in parameters}
    return {name: value for name, value in options.items() if name in names}


class _Enough(BaseException):
    """Raised after all epochs, to end an author's loop that would go on."""


class _Listener(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that hands the figures of each epoch to ``note``."""

    def __init__(self, note: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._note = note

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._note(dict(logs or {}))


class _Follower(_Listener):
    """A callback that measures, keeps and reports each epoch of the author's loop."""

    def __init__(
        self,
        model: keras.Model,
        whole: keras.Model,
        training: Split,
        validation: Split,
        form: ModelForm,
        report: Report,
        plan: TrainingPlan,
    ) -> None:
        super().__init__(self._follow)
        self._most = plan.epochs
        self._objective = plan.objective
        self.set_model(model)
        self._trained = model
        self._whole = whole
        self._splits = training, validation
        self._form = form
        self._report = report
        self._began = time.perf_counter()
        self.epochs: list[EpochMetrics] = []
        self.best_weights: list[Any] = []
        self.diverged: Diverged | None = None

    def _follow(self, logs: dict[str, Any]) -> None:
        now = self._measure(logs)
        if not now.possible:
            self.diverged = Diverged(now.epoch)
            raise self.diverged
        if is_better(now, self.epochs):
            self.best_weights = self._trained.get_weights()
        self.epochs.append(now)
        self._report(tuple(self.epochs))
        if len(self.epochs) >= self._most:
            raise _Enough
        self._began = time.perf_counter()

    def _measure(self, logs: dict[str, Any]) -> EpochMetrics:
        """Take the loop's own loss and accuracy if it reports both; validation is always predicted.

        The loop may have validated on other images.
        """
        training, validation = self._splits
        accuracy = self._form.accuracy
        own = {"loss", accuracy} <= set(logs)
        part = slice(0, MEASURED_IMAGES)
        values = (
            {"loss": logs["loss"], "accuracy": logs[accuracy]}
            if own
            else score(self._whole, training.images[part], training.labels[part])
        )
        found = score(self._whole, validation.images, validation.labels, self._objective)
        values |= {f"val_{name}": value for name, value in found.items()}
        seconds = time.perf_counter() - self._began
        return as_measured(len(self.epochs) + 1, values, seconds, self._objective)
