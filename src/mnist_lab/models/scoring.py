"""A model as MLflow's ``pyfunc``: it takes pictures or pixels, checks them, and answers with classes.

MLflow imports this module by the name that ``tracking/package.py`` writes into the model's folder.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from mnist_lab.data import ImageForm
from mnist_lab.errors import DataError
from mnist_lab.models.pictures import prepare, prepare_images
from mnist_lab.tracking.package import IMAGES_FILE, KERAS_FILE

if TYPE_CHECKING:
    import keras


def _load_pyfunc(path: str) -> Scorer:
    """Load the model, as MLflow asks for it."""
    import keras

    form = ImageForm.from_dict(json.loads((Path(path) / IMAGES_FILE.name).read_text()))
    return Scorer(keras.saving.load_model(Path(path) / KERAS_FILE.name, compile=False), form)


class Scorer:
    """A Keras model that answers for arrays of pixels and for base64 text of PNG or JPEG files."""

    def __init__(self, network: keras.Model, images: ImageForm) -> None:
        self._network = network
        self._images = images

    def predict(self, inputs: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Answer for each input with its class, and the probabilities of all classes by name.

        Raises:
            MlflowException: an input is no picture, or no pixels of the model's shape; the server
                answers 400 with the sentence that says what would do.
        """
        given = np.asarray(inputs)
        is_text = given.dtype.kind in "USO" and given.size and isinstance(given.flat[0], str)
        try:
            pixels = (
                self._decoded(given.ravel()) if is_text else prepare_images(given, self._images)
            )
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        names = self._images.class_names
        return [
            {
                "class": names[int(row.argmax())],
                "probability": float(row.max()),
                "probabilities": dict(zip(names, map(float, row), strict=True)),
            }
            for row in self._network.predict(pixels, verbose=0)
        ]

    def _decoded(self, texts: NDArray[Any]) -> NDArray[np.uint8]:
        try:
            return np.stack(
                [
                    prepare(
                        base64.b64decode(str(text), validate=True),
                        self._images,
                        name=f"Input {index}",
                    )
                    for index, text in enumerate(texts)
                ]
            )
        except binascii.Error:
            raise _refusal("text that is not base64 of a PNG or JPEG file") from None


def _refusal(found: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(
        f"Found {found}. Send pixels in [0, 255], or base64 text of PNG or JPEG files."
    )
