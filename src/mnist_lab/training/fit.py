"""``FitEngine``: Keras's own ``fit`` and ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mnist_lab.training.form import PLAIN, ModelForm
from mnist_lab.training.precision import FLOAT32

if TYPE_CHECKING:
    import keras
from mnist_lab.training.engine import VALIDATION_BATCH, Images, Labels


class FitEngine:
    """The engine of Keras's ``fit`` and ``evaluate``, for every backend and for eager models."""

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
