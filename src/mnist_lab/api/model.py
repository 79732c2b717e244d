"""A registered model in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data import ImageForm
from mnist_lab.settings import Settings

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, eq=False)
class Model:
    """A version of a registered model: ``reference`` is MODEL/VERSION.

    Attributes:
        images: the shape, class names and preparation of its images.
        network: the Keras model: uint8 pixels in, probabilities out.
    """

    reference: str
    images: ImageForm
    network: keras.Model

    @classmethod
    def load(cls, reference: str, settings: Settings) -> Model:
        """Load MODEL@ALIAS or MODEL/VERSION, checked as ``mnist-lab predict`` checks it.

        Raises:
            UsageError, UnknownNameError, DataError: there is none, or its file is not safe.
        """
        from mnist_lab.models import load_version
        from mnist_lab.tracking.store import open_client

        version, images, network = load_version(open_client(settings), reference, settings)
        return cls(f"{version.name}/{version.version}", images, network)

    def probabilities(self, images: NDArray[Any] | Sequence[str | Path]) -> NDArray[np.float32]:
        """Return ``(N, C)`` probabilities of arrays ``(N, *shape)``, or of N picture files.

        Arrays are pixels in [0, 255], or pixels divided by 255.

        Raises:
            DataError: they are not of the model's shape, or a file is no picture.
        """
        from mnist_lab.models import prepare_images

        pixels = prepare_images(images, self.images)
        found: NDArray[np.float32] = self.network.predict(pixels, verbose=0)
        return found

    def predict(self, images: NDArray[Any] | Sequence[str | Path]) -> list[str]:
        """Return the class name of each image; images as ``probabilities`` takes them."""
        rows = self.probabilities(images)
        return [self.images.class_names[int(row.argmax())] for row in rows]

    def __repr__(self) -> str:
        return (
            f"<Model {self.reference}: {self.images.shape} images, {self.images.classes} classes>"
        )
