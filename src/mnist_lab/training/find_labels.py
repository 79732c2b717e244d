"""``find_labels``: find the form of the labels that another author's model takes, with one batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.errors import ConfigurationError, first_line
from mnist_lab.training.form import ModelForm

if TYPE_CHECKING:
    import keras

LESSONS = 30  # steps on one batch, where an author's own loss takes labels of both kinds
ACCURACIES = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy")

Build = Callable[[], "keras.Model"]
Fit = Callable[..., Any]


def find_labels(
    build: Build,
    form: ModelForm,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    classes: int,
    fit: Fit | None,
) -> tuple[ModelForm, keras.Model]:
    """Find labels and metrics with which the model can be trained; return the trained model, too."""
    refusals, taken = [], []
    for whole in (False, True):
        tried = replace(form, whole_labels=whole)
        model, batch = build(), (tried.array(images), tried.label(labels, classes))
        try:
            logs = _one_step(model, batch, fit)
        except Exception as error:  # whatever the author's code or Keras says to these labels
            refusals.append(first_line(error))
            continue
        taken.append((_read_logs(tried, model, batch, logs, fit), model))
        if fit is not None or not _is_authors(model):
            break  # Keras's own losses refuse what is not theirs
    if not taken:
        raise _cannot_train(build, refusals, fit)
    if len(taken) == 1:
        return taken[0]
    return max(taken, key=lambda each: _learns(build, each[0], images, labels, classes))


def _read_logs(
    form: ModelForm,
    model: keras.Model,
    batch: tuple[Any, Any],
    logs: Mapping[str, Any],
    fit: Fit | None,
) -> ModelForm:
    """``form`` with the metrics that a step has reported."""
    accuracy = next((name for name in ACCURACIES if name in logs), "")
    if fit is None and ("loss" not in logs or (form.is_plain and not accuracy)):
        raise ConfigurationError(
            f"The model trains, but reports {', '.join(sorted(logs))}: not loss and accuracy.",
            next_step="Compile it with metrics=['accuracy'].",
        )
    # An own ``fit`` may validate on other images than it is given, or on none.
    validates = fit is None and bool(accuracy) and _validates(model, batch, accuracy)
    return replace(form, accuracy=accuracy, validates=validates)


def _is_authors(model: keras.Model) -> bool:
    """Whether the loss or the step is the author's own code, which may take any labels in silence."""
    loss = model.loss
    own_loss = loss is not None and not isinstance(loss, str | list | dict)
    kind = loss if inspect.isroutine(loss) else type(loss)
    return (own_loss and not str(getattr(kind, "__module__", "")).startswith("keras.")) or (
        not type(model).__module__.startswith("keras.")
    )


def _learns(
    build: Build,
    form: ModelForm,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    classes: int,
) -> float:
    """Measure how much of one batch a new model learns by heart; of equals, one-hot labels win."""
    model = build()
    batch = form.array(images), form.label(labels, classes)
    try:
        model.fit(*batch, batch_size=len(labels), epochs=LESSONS, verbose=0)
    except Exception:  # it took one step only
        return -1.0
    found = call_model(model, form, images).argmax(axis=1)
    return float((found == labels).mean()) - 0.1 * form.whole_labels


def _cannot_train(build: Build, refusals: Sequence[str], fit: Fit | None) -> ConfigurationError:
    whole_numbers = fit is not None or "sparse" in str(getattr(build(), "loss", "")).lower()
    where = "the arguments of model.compile" if fit is None else "HyperModel.fit"
    return ConfigurationError(
        f"The model builds, but cannot train: {refusals[int(whole_numbers)]}",
        next_step=f"Check {where}.",
    )


def _one_step(model: keras.Model, batch: tuple[Any, Any], fit: Fit | None) -> dict[str, Any]:
    if fit is not None:
        from mnist_lab.training.written import try_fit

        return try_fit(fit, model, batch)
    model.run_eagerly = True  # tracing a graph for one step takes longer than the step
    # Not ``train_on_batch``, which gives an own ``train_step`` a third thing to unpack.
    history = model.fit(*batch, batch_size=len(batch[1]), verbose=0).history
    return {name: values[-1] for name, values in history.items()}


def _validates(model: keras.Model, batch: tuple[Any, Any], accuracy: str) -> bool:
    try:
        logs = model.evaluate(*batch, verbose=0, return_dict=True)
    except Exception:  # an own ``train_step`` may stand without a ``test_step``
        return False
    return {"loss", accuracy} <= set(logs)


def call_model(model: keras.Model, form: ModelForm, images: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the output of ``model`` for ``images (N, H, W, ...)``, not in training."""
    import keras

    found: NDArray[Any] = keras.ops.convert_to_numpy(model(form.feed(images), training=False))
    return found
