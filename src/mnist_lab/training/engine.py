"""How an epoch is run: Keras's own ``fit``, or, on TensorFlow, one graph for the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mnist_lab.training.form import PLAIN, ModelForm
from mnist_lab.training.precision import FLOAT32

if TYPE_CHECKING:
    import keras

# Larger than any training batch: nothing is stored for gradients, so memory allows it.
VALIDATION_BATCH = 1000
Images = NDArray[np.uint8]
Labels = NDArray[Any]


class Engine(Protocol):
    """Trains a compiled model for whole epochs and measures it.

    ``precision`` is that of a step's products; it may be set before the first epoch.
    """

    precision: str

    def train(self, images: Images, labels: Labels) -> Mapping[str, float]:
        """One pass over ``images (N, 28, 28)`` and labels in this order; loss and metrics."""

    def validate(self) -> Mapping[str, float]:
        """Loss and metrics of the validation split."""


def make_engine(
    model: keras.Model,
    validation: tuple[Images, Labels],
    *,
    batch_size: int,
    form: ModelForm = PLAIN,
) -> Engine:
    """The fastest engine that trains ``model`` as Keras itself would.

    ``validation`` is images ``(N, 28, 28) uint8`` and labels in ``form``. A model whose steps are its
    author's own is trained by Keras's ``fit``.
    """
    import keras

    if (
        keras.config.backend() == "tensorflow"
        and not model.run_eagerly
        and _takes_keras_steps(model)
    ):
        from mnist_lab.training.graph import GraphEngine

        return GraphEngine(model, validation, batch_size=batch_size, form=form)
    return FitEngine(model, validation, batch_size=batch_size, form=form)


def _takes_keras_steps(model: keras.Model) -> bool:
    """Whether no class of the author's stands between Keras and the model's layers."""
    return type(model).__module__.startswith("keras.")


class FitEngine:
    """``fit`` and ``evaluate``: for every backend and for models that run eagerly."""

    precision = FLOAT32

    def __init__(
        self,
        model: keras.Model,
        validation: tuple[Images, Labels],
        *,
        batch_size: int,
        form: ModelForm = PLAIN,
    ) -> None:
        self._model = model
        self._form = form
        self._validation = (form.array(validation[0]), validation[1])
        self._batch_size = batch_size

    def train(self, images: Images, labels: Labels) -> Mapping[str, float]:
        options: Any = {"batch_size": self._batch_size, "shuffle": False, "verbose": 0}
        history = self._model.fit(self._form.array(images), labels, **options).history
        return {name: float(values[-1]) for name, values in history.items()}

    def validate(self) -> Mapping[str, float]:
        images, labels = self._validation
        found = self._model.evaluate(
            images, labels, batch_size=VALIDATION_BATCH, verbose=0, return_dict=True
        )
        return {name: float(value) for name, value in found.items()}
