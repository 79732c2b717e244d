"""``ModelForm``: how a model that somebody wrote takes images and labels, and what it gives.

Our own spaces promise raw pixels in, one-hot labels, probabilities out. Others' models are trained as
they were written: their form is found by trying one batch on models that are thrown away.

=============== ====================================================================================
images          the shape that the model was built for; else the first of (28, 28), (28, 28, 1), (784,)
                that gives one row a picture
scale           [0, 1] or [0, 255]: whichever gives the first layer with weights an input whose
                deviation is nearer to 1, so a model's own ``Rescaling`` is not doubled
labels          one-hot, else whole numbers: the first that a step of training takes
output          probabilities; logits (a softmax is put behind the model, not before its loss);
                shares, such as sigmoids, which are divided by their sum
=============== ====================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data import Split
from mnist_lab.errors import ConfigurationError, first_line

if TYPE_CHECKING:
    import keras

UNIT = 1 / 255
BATCH = 48  # images that are tried; never as many as there are classes, or two axes look the same
Output = Literal["probabilities", "logits", "shares"]
Build = Callable[[], "keras.Model"]
Fit = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class ModelForm:
    """What a model is fed with and what becomes of its output.

    ``shape`` is that of one image, of ``dtype``; pixels are multiplied by ``scale``. ``accuracy`` is
    the name of the metric that is one; empty if there is none, and it is computed from predictions.
    ``validates``: its own evaluation reports loss and accuracy; else both are computed, the loss as
    cross-entropy.
    """

    shape: tuple[int, ...] = ()
    dtype: str = "uint8"
    scale: float = 1.0
    whole_labels: bool = False
    output: Output = "probabilities"
    accuracy: str = "accuracy"
    validates: bool = True

    @property
    def is_plain(self) -> bool:
        """Raw pixels in, probabilities out: nothing is put around the model."""
        return (self.shape, self.output) == ((), "probabilities")

    def facts(self) -> dict[str, str]:
        """The form as it is shown to people."""
        if self.is_plain:
            images = "raw pixels"
        else:
            top = "0 to 1" if self.scale == UNIT else "0 to 255"
            images = f"{self.dtype} {self.shape}, {top}"
        put_behind = {"logits": ", softmax put behind", "shares": ", divided by their sum"}
        return {
            "images": images,
            "labels": "whole numbers" if self.whole_labels else "one-hot",
            "output": self.output + put_behind.get(self.output, ""),
            "validation": "the model's own" if self.validates else "from its predictions",
            **({} if self.accuracy else {"accuracy": "from its predictions"}),
        }

    def to_dict(self) -> dict[str, Any]:
        """The form as JSON-able data; ``from_dict`` brings it back."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelForm:
        return cls(**{**data, "shape": tuple(data["shape"])})

    def feed(self, images: Any) -> Any:
        """``images (N, H, W) uint8`` as the model takes them; arrays or tensors, also in a graph."""
        import keras

        if not self.shape:
            return images
        if self.dtype != "uint8":
            images = keras.ops.cast(images, self.dtype) * self.scale
        return keras.ops.reshape(images, (-1, *self.shape))

    def label(self, labels: NDArray[np.uint8], classes: int) -> NDArray[Any]:
        """``labels (N,)`` as the loss takes them: ``(N, classes) float32`` or ``(N,) int32``."""
        if self.whole_labels:
            return labels.astype(np.int32)
        return np.eye(classes, dtype=np.float32)[labels]


PLAIN = ModelForm()


def around(model: keras.Model, form: ModelForm, input_shape: tuple[int, ...]) -> keras.Model:
    """``model`` with raw pixels ``(N, *input_shape) uint8`` in and probabilities out, sharing weights.

    This is what is saved, served and evaluated. ``model`` itself where it is so already.
    """
    import keras

    if form.is_plain:
        return model
    pixels = keras.Input(input_shape, dtype="uint8", name="pixels")
    x = pixels
    if form.shape and form.dtype != "uint8":
        x = keras.layers.Rescaling(form.scale, dtype="float32", name="scale")(x)
    if form.shape and form.shape != tuple(input_shape):
        x = keras.layers.Reshape(form.shape, name="shape")(x)
    x = model(x)
    if form.output == "logits":
        x = keras.layers.Softmax(dtype="float32", name="probabilities")(x)
    elif form.output == "shares":
        x = x / keras.ops.sum(x, axis=-1, keepdims=True)
    return keras.Model(pixels, x, name=model.name)


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
    images = split.images[: BATCH + (classes == BATCH)]
    labels = split.labels[: len(images)]
    model, form = (
        (build(), ModelForm(dtype="uint8")) if raw else _find_shape(build, images, classes)
    )
    if not raw and form.dtype != "uint8":
        form = _replace(form, scale=_find_scale(model, form, images))
    outputs = _call(model, form, images)
    if tuple(outputs.shape) != (len(images), classes):
        raise ConfigurationError(_wrong_output(outputs, len(images), classes))
    form = _replace(form, output=_output_kind(outputs))
    if fit is None and not model.compiled:
        raise ConfigurationError(
            "The model is not compiled.", next_step="Call model.compile(...) in the build function."
        )
    return _find_labels(build, form, images, labels, classes, fit)


def _replace(form: ModelForm, **changes: Any) -> ModelForm:
    return ModelForm(**{**asdict(form), **changes})


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
    raise ConfigurationError(f"The model takes none of the shapes {shapes}: {refusals[-1]}")


def _known_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """The shape of one image, where the model was built for one."""
    inputs = getattr(model, "inputs", None)
    if inputs and len(inputs) > 1:
        raise ConfigurationError(f"The model has {len(inputs)} inputs; it is given images only.")
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


def _output_kind(outputs: NDArray[Any]) -> Output:
    if not np.all((outputs >= 0) & (outputs <= 1)):
        return "logits"
    sums = outputs.astype(np.float64).sum(axis=1)
    return "probabilities" if np.allclose(sums, 1, atol=1e-2) else "shares"


def _find_scale(model: keras.Model, form: ModelForm, images: NDArray[np.uint8]) -> float:
    """The scale that gives the first layer with weights the input nearer to a deviation of 1."""
    seen: list[float] = []
    with _watched(model, seen):
        distances = {}
        for scale in (UNIT, 1.0):
            seen.clear()
            _call(model, _replace(form, scale=scale), images)
            deviation = seen[0] if seen and seen[0] > 0 else 1.0
            distances[scale] = abs(math.log(deviation))
    return min(distances, key=lambda scale: distances[scale])


class _watched:  # noqa: N801 - a context manager, named as one
    """Note the deviation of what each layer with weights is given, in the order of the calls."""

    def __init__(self, model: keras.Model, seen: list[float]) -> None:
        self._layers = list(_weighted(model))
        self._seen = seen

    def __enter__(self) -> None:
        import keras

        for layer in self._layers:
            call = layer.call

            def watch(inputs: Any, *args: Any, call: Any = call, **options: Any) -> Any:
                self._seen.append(float(np.std(keras.ops.convert_to_numpy(inputs))))
                return call(inputs, *args, **options)

            layer.call = watch

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            del layer.call


def _weighted(model: keras.Model) -> Iterator[Any]:
    """Layers that multiply by weights: no normalisation, which takes any scale."""
    for layer in model._flatten_layers(include_self=False):
        inner = list(layer._flatten_layers(include_self=False))
        if not inner and layer.trainable_weights and "Normalization" not in type(layer).__name__:
            yield layer


def _find_labels(
    build: Build,
    form: ModelForm,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    classes: int,
    fit: Fit | None,
) -> ModelForm:
    """``form`` with the labels that a step takes, and the metrics that it reports."""
    refusals = []
    for whole in (False, True):
        tried = _replace(form, whole_labels=whole)
        model, batch = build(), (tried.feed(images), tried.label(labels, classes))
        try:
            logs = _one_step(model, batch, fit)
        except Exception as error:  # whatever the author's code or Keras says to these labels
            refusals.append(first_line(error))
            continue
        accuracy = _accuracy_in(logs)
        if fit is not None:
            own = bool(accuracy) and {f"val_{accuracy}", "val_loss"} <= set(logs)
            return _replace(tried, accuracy=accuracy, validates=own)
        if "loss" not in logs or (form.is_plain and not accuracy):
            raise ConfigurationError(
                f"The model trains, but reports {', '.join(sorted(logs))}: not loss and accuracy.",
                next_step="Compile it with metrics=['accuracy'].",
            )
        validates = bool(accuracy) and _validates(model, batch, accuracy)
        return _replace(tried, accuracy=accuracy, validates=validates)
    whole_numbers = "sparse" in str(getattr(build(), "loss", "")).lower()
    raise ConfigurationError(
        f"The model builds, but cannot train: {refusals[int(whole_numbers)]}",
        next_step="Check the arguments of model.compile.",
    )


def _one_step(model: keras.Model, batch: tuple[Any, Any], fit: Fit | None) -> dict[str, Any]:
    if fit is not None:
        from mnist_lab.training.written import try_fit

        return try_fit(fit, model, batch)
    model.run_eagerly = True  # tracing a graph for one step takes longer than the step
    # Not ``train_on_batch``, which gives an own ``train_step`` a third thing to unpack.
    history = model.fit(*_arrays(batch), batch_size=len(batch[1]), verbose=0).history
    return {name: values[-1] for name, values in history.items()}


def _arrays(batch: tuple[Any, Any]) -> tuple[Any, Any]:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(batch[0])), batch[1]


def _validates(model: keras.Model, batch: tuple[Any, Any], accuracy: str) -> bool:
    try:
        logs = model.evaluate(*_arrays(batch), verbose=0, return_dict=True)
    except Exception:  # an own ``train_step`` may stand without a ``test_step``
        return False
    return {"loss", accuracy} <= set(logs)


def _accuracy_in(logs: Mapping[str, Any]) -> str:
    """The metric that is an accuracy, by its name; of several the plainest; empty for none."""
    names: Sequence[str] = [name for name in logs if not name.startswith("val_")]
    plain = [name for name in ("accuracy", "acc") if name in names]
    return next(iter([*plain, *(name for name in names if "acc" in name.lower())]), "")
