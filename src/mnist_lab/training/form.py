"""``ModelForm``: the form of a model's images, labels and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

UNIT = 1 / 255
Output = Literal["probabilities", "logits", "shares"]


@dataclass(frozen=True, kw_only=True)
class ModelForm:
    """The form in which a model takes images and labels, and the kind of its output.

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
        """Whether the model takes raw pixels and returns probabilities, and needs nothing around it."""
        return (self.shape, self.output) == ((), "probabilities")

    def facts(self) -> dict[str, str]:
        """Return the form as text by name, to be shown to people."""
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
        """Return the form as JSON-able data, which ``from_dict`` reads."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelForm:
        """Read the data of ``to_dict``; keys of newer versions are left out."""
        known = {each.name for each in fields(cls)}
        found = {key: value for key, value in data.items() if key in known}
        return cls(**{**found, "shape": tuple(data["shape"])})

    def feed(self, images: Any) -> Any:
        """Convert ``images (N, H, W) uint8``, arrays or tensors, to the model's form, in graphs too."""
        import keras

        if not self.shape:
            return images
        if self.dtype != "uint8":
            images = keras.ops.cast(images, self.dtype) * self.scale
        return keras.ops.reshape(images, (-1, *self.shape))

    def array(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Convert an array as ``feed`` does, into one new array: a whole data set is large."""
        if not self.shape:
            return images
        if self.dtype != "uint8":
            kind = np.dtype(self.dtype)
            images = np.multiply(images, kind.type(self.scale), dtype=kind)
        return images.reshape(-1, *self.shape)

    def label(self, labels: NDArray[np.uint8], classes: int) -> NDArray[Any]:
        """Convert ``labels (N,)`` for the loss: to ``(N, classes) float32`` or ``(N,) int32``."""
        if self.whole_labels:
            return labels.astype(np.int32)
        return np.eye(classes, dtype=np.float32)[labels]


PLAIN = ModelForm()


def around(model: keras.Model, form: ModelForm, input_shape: tuple[int, ...]) -> keras.Model:
    """Wrap ``model`` to take raw pixels ``(N, *input_shape) uint8`` and return probabilities.

    This is saved, served and evaluated. It shares weights with ``model``; a plain one is returned.
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
        x = x / (keras.ops.sum(x, axis=-1, keepdims=True) + 1e-7)
    return keras.Model(pixels, x, name=model.name)
