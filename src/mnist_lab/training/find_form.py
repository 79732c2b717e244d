"""``find_form``: find the form of the images, labels and output of another author's model.

Declared spaces promise raw pixels in, one-hot labels, probabilities out. Others' models are trained as
they were written: their form is found by trying one batch on models that are thrown away.

=============== ====================================================================================
images          the shape that the model was built for; else the first of (H, W), (H, W, 1 or 3), (all,)
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

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data import Split
from mnist_lab.errors import ConfigurationError, first_line
from mnist_lab.training.form import UNIT, ModelForm, Output

if TYPE_CHECKING:
    import keras
from mnist_lab.training.find_labels import Build, Fit, call_model, find_labels

BATCH = 48


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
        ConfigurationError: the model cannot be trained; the message has the remedy.
    """
    # Never as many images as classes: two axes of one length look the same.
    images = split.images[: BATCH + (classes == BATCH)]
    labels = split.labels[: len(images)]
    model, form = (
        (build(), ModelForm(dtype="uint8")) if raw else _find_shape(build, images, classes)
    )
    if not raw and form.dtype != "uint8":
        form = replace(form, scale=_find_scale(model, form, images))
    outputs = call_model(model, form, images)
    if tuple(outputs.shape) != (len(images), classes):
        raise ConfigurationError(
            _wrong_output(outputs, len(images), classes),
            next_step=f"End it with a Dense layer of {classes} units.",
        )
    if fit is None and not model.compiled:
        raise ConfigurationError(
            "The model is not compiled.", next_step="Call model.compile(...) in the build function."
        )
    form, trained = find_labels(build, form, images, labels, classes, fit)
    # Untrained, logits may all be 0: what they are is seen after a step.
    outputs = np.concatenate([outputs, call_model(trained, form, images)])
    return replace(form, output=_output_kind(trained, outputs))


def require_model(found: Any) -> keras.Model:
    """Return ``found`` if it is a Keras model, as a build function must return.

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
    """Find the shape and type of the images that a model takes; return the called model, too."""
    refusals = []
    own = images.shape[1:]
    whole = own if len(own) == 3 else (*own, 1)
    shapes = list(dict.fromkeys([own, whole, (math.prod(own),)]))
    model = build()
    known = _known_shape(model)
    if known is not None:
        fixed = tuple(side or size for side, size in zip(known, whole, strict=False))
        if math.prod(fixed) != math.prod(own):
            raise ConfigurationError(
                f"The model takes images of shape {known}, and the data have {own}.",
                next_step=f"Give its Input the shape {' or '.join(map(str, shapes))}.",
            )
        shapes = [fixed]
    elif _is_of_pictures(model):  # those take (N, 28, 28) for one picture of 28 channels
        shapes = [each for each in shapes if len(each) != 2]
    for shape in shapes:
        form = ModelForm(shape=shape, dtype=_input_dtype(model), scale=UNIT)
        try:
            outputs = call_model(model, form, images)
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
    """Find the first layer with weights that ``images`` reach, and its input's deviation."""
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
        call_model(model, form, images)
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
