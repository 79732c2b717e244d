"""``find_form``: find how another author's model takes images and labels, and what it gives.

Our own spaces promise raw pixels in, one-hot labels, probabilities out. Others' models are trained as
they were written: their form is found by trying one batch on models that are thrown away.

=============== ====================================================================================
images          the shape that the model was built for; else the first of (28, 28), (28, 28, 1), (784,)
                that gives one row a picture
scale           [0, 1] or [0, 255]: whichever gives the first layer with weights an input whose
                deviation is nearer to 1, so a model's own ``Rescaling`` is not doubled
labels          one-hot, else whole numbers: the first that a step of training takes; if an author's
                own loss takes both, those from which more of the batch is learnt
output          probabilities; logits (a softmax is put behind the model, not before its loss);
                shares, such as sigmoids, which are divided by their sum
=============== ====================================================================================
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data import Split
from mnist_lab.errors import ConfigurationError, first_line
from mnist_lab.training.form import UNIT, ModelForm, Output

if TYPE_CHECKING:
    import keras

Build = Callable[[], "keras.Model"]
Fit = Callable[..., Any]
BATCH = 48
LESSONS = 30  # steps on one batch, where an author's own loss takes labels of both kinds
ACCURACIES = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy")


def find_form(
    build: Build, split: Split, classes: int, *, raw: bool = False, fit: Fit | None = None
) -> ModelForm:
    """Find the form of the models of ``build`` by trying one batch of ``split``.

    Args:
        build: makes the same model each time.
        split: training images and labels.
        classes: how many there are.
        raw: the models promise to take raw pixels.
        fit: the author's own training, called as KerasTuner calls it; None for Keras's.

    Raises:
        ConfigurationError: the model cannot be trained, with what would help.
    """
    # Never as many images as classes: two axes of one length look the same.
    images = split.images[: BATCH + (classes == BATCH)]
    labels = split.labels[: len(images)]
    model, form = (
        (build(), ModelForm(dtype="uint8")) if raw else _find_shape(build, images, classes)
    )
    if not raw and form.dtype != "uint8":
        form = replace(form, scale=_find_scale(model, form, images))
    outputs = _call(model, form, images)
    if tuple(outputs.shape) != (len(images), classes):
        raise ConfigurationError(
            _wrong_output(outputs, len(images), classes),
            next_step=f"End it with a Dense layer of {classes} units.",
        )
    if fit is None and not model.compiled:
        raise ConfigurationError(
            "The model is not compiled.", next_step="Call model.compile(...) in the build function."
        )
    form, trained = _find_labels(build, form, images, labels, classes, fit)
    # Untrained, logits may all be 0: what they are is seen after a step.
    outputs = np.concatenate([outputs, _call(trained, form, images)])
    return replace(form, output=_output_kind(trained, outputs))


def require_model(found: Any) -> keras.Model:
    """``found``, if a build function has returned a model.

    Raises:
        ConfigurationError: it returned something else.
    """
    import keras

    if isinstance(found, keras.Model):
        return found
    raise ConfigurationError(
        f"The build function returned {type(found).__name__}, not a Keras model.",
        next_step="Is a return missing? End it with: return model",
    )


def _find_shape(
    build: Build, images: NDArray[np.uint8], classes: int
) -> tuple[keras.Model, ModelForm]:
    """A model that was called, and the shape and type of the images that it takes."""
    refusals = []
    height, width = images.shape[1:3]
    shapes = [(height, width), (height, width, 1), (height * width,)]
    model = build()
    known = _known_shape(model)
    if known is not None:
        fixed = tuple(own or size for own, size in zip(known, (height, width, 1), strict=False))
        if math.prod(fixed) != height * width:
            raise ConfigurationError(
                f"The model takes images of shape {known}, and the data have {(height, width)}.",
                next_step="Give its Input the shape (28, 28), (28, 28, 1) or (784,).",
            )
        shapes = [fixed]
    elif _is_of_pictures(model):  # those take (N, 28, 28) for one picture of 28 channels
        shapes = shapes[1:]
    for shape in shapes:
        form = ModelForm(shape=shape, dtype=_input_dtype(model), scale=UNIT)
        try:
            outputs = _call(model, form, images)
            if tuple(outputs.shape) == (len(images), classes):
                return model, form
            refusals.append(_wrong_output(outputs, len(images), classes))
        except Exception as error:  # whatever the author's code or Keras says to another shape
            refusals.append(first_line(error))
        model = build()  # the refused call may have built half of it
    raise ConfigurationError(
        f"The model takes none of the shapes {shapes}: {refusals[-1]}",
        next_step="Give it an Input, and an output of one number a class.",
    )


def _known_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """The shape of one image, where the model was built for one."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    for name, found in (("inputs", inputs), ("outputs", outputs)):
        if found and len(found) > 1:
            raise ConfigurationError(
                f"The model has {len(found)} {name}: mnist-lab tunes classifiers with one.",
                next_step="Build it with one Input and one output.",
            )
    return tuple(inputs[0].shape[1:]) if inputs else None


def _input_dtype(model: keras.Model) -> str:
    inputs = getattr(model, "inputs", None)
    found = str(inputs[0].dtype) if inputs else "float32"
    return found if "int" in found else "float32"


def _is_of_pictures(model: keras.Model) -> bool:
    """Whether it has layers that augment or crop pictures, which tell batches from pictures by rank."""
    import keras

    names = ("Random", "CenterCrop", "Resizing", "AutoContrast", "Rand", "CutMix", "MixUp")
    return any(
        type(layer).__module__.startswith(keras.layers.RandomFlip.__module__.rpartition(".")[0])
        and type(layer).__name__.startswith(names)
        for layer in model.layers
    )


def _call(model: keras.Model, form: ModelForm, images: NDArray[np.uint8]) -> NDArray[Any]:
    import keras

    found: NDArray[Any] = keras.ops.convert_to_numpy(model(form.feed(images), training=False))
    return found


def _wrong_output(outputs: NDArray[Any], images: int, classes: int) -> str:
    return (
        f"The model's output for {images} images has shape {tuple(outputs.shape)}, not "
        f"({images}, {classes}): one number a class."
    )


def _output_kind(model: keras.Model, outputs: NDArray[Any]) -> Output:
    outputs = outputs[np.isfinite(outputs).all(axis=1)].astype(np.float64)
    if getattr(model.loss, "from_logits", False) or np.any((outputs < 0) | (outputs > 1)):
        return "logits"
    sums = outputs.sum(axis=1)
    if np.allclose(sums, 1, atol=1e-2):
        return "probabilities"
    return "shares" if np.all(sums > 0) else "logits"


def _find_scale(model: keras.Model, form: ModelForm, images: NDArray[np.uint8]) -> float:
    """The scale that gives the first layer with weights the input nearer to a deviation of 1.

    What is looked up in a table, an ``Embedding``, is pixels as they are.
    """
    import keras

    distances = {}
    for scale in (UNIT, 1.0):
        first = _first_input(model, replace(form, scale=scale), images)
        if first is None:  # no layer has weights: one scale is as good as the other
            return UNIT
        layer, deviation = first
        if isinstance(layer, keras.layers.Embedding):
            return 1.0
        # An input that is the same everywhere says nothing to the model.
        distances[scale] = abs(math.log(deviation)) if deviation > 0 else math.inf
    return min(distances, key=lambda scale: distances[scale])


def _first_input(
    model: keras.Model, form: ModelForm, images: NDArray[np.uint8]
) -> tuple[Any, float] | None:
    """The first layer with weights that ``images`` come to, and the deviation of what it is given."""
    import keras

    seen: list[tuple[Any, float]] = []
    layers = list(_weighted(model))
    for layer in layers:

        def watch(
            inputs: Any, *args: Any, layer: Any = layer, call: Any = layer.call, **options: Any
        ) -> Any:
            seen.append((layer, float(np.std(keras.ops.convert_to_numpy(inputs)))))
            return call(inputs, *args, **options)

        layer.call = watch
    try:
        _call(model, form, images)
    finally:
        for layer in layers:
            del layer.call
    return seen[0] if seen else None


def _weighted(model: keras.Model) -> Iterator[Any]:
    """Layers that multiply by weights: no normalisation, which takes any scale.

    Of recurrent layers the layer itself: TensorFlow's kernels pass their cells by.
    """
    import keras

    whole = (keras.layers.RNN, keras.layers.Bidirectional)
    for layer in model._flatten_layers(include_self=False):
        inner = list(layer._flatten_layers(include_self=False))
        leaf = not inner or isinstance(layer, whole)
        if leaf and layer.trainable_weights and "Normalization" not in type(layer).__name__:
            yield layer


def _find_labels(
    build: Build,
    form: ModelForm,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    classes: int,
    fit: Fit | None,
) -> tuple[ModelForm, keras.Model]:
    """``form`` with the labels and metrics of a step that the model takes; the model after it."""
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
    # An own ``fit`` may validate on other images than ours, or on none.
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
    """How much of one batch a new model learns by heart; of equals, one-hot labels come first."""
    model = build()
    batch = form.array(images), form.label(labels, classes)
    try:
        model.fit(*batch, batch_size=len(labels), epochs=LESSONS, verbose=0)
    except Exception:  # it took one step only
        return -1.0
    found = _call(model, form, images).argmax(axis=1)
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
