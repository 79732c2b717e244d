"""Kept predictions: what a trial answers for each validation image, in some tens of kB.

Trials are compared image by image from these, without a model and without training again.
"""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEVELS = 255
# For 10,000 images of ten classes; more is coarsened until it fits.
BYTES_A_PROBABILITY = 0.48
LEAST_LEVELS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The answers for N validation images, in the order of the data set's validation part.

    ``classes`` is ``(N,) uint8``, the class with the highest probability; ``probabilities`` is
    ``(N, C) float32`` in [0, 1], exact to half a step of 1/255, or of 1/15 for models that are unsure
    of all images.
    """

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float32]

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The probability of each image's class, ``(N,)``."""
        found: NDArray[np.float32] = np.take_along_axis(
            self.probabilities, self.classes[:, None].astype(int), axis=1
        )[:, 0]
        return found


def pack_predictions(probabilities: NDArray[np.float32]) -> bytes:
    """Return ``probabilities (N, C)`` as a compressed ``.npz``: classes, and 8 bits a probability."""
    levels = LEVELS
    while True:
        packed = _pack(probabilities, levels)
        if levels <= LEAST_LEVELS or len(packed) <= BYTES_A_PROBABILITY * probabilities.size:
            return packed
        levels //= 2


def _pack(probabilities: NDArray[np.float32], levels: int) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        classes=probabilities.argmax(axis=1).astype(np.uint8),
        # Class by class: columns of a confident model are runs of zeros.
        quantised=np.ascontiguousarray(np.rint(probabilities.T * levels).astype(np.uint8)),
        levels=np.uint8(levels),
    )
    return buffer.getvalue()


def pack_classes(classes: NDArray[np.int64] | NDArray[np.uint8]) -> str:
    """Return classes ``(N,)`` below 256 as text: 4 to 8 kB for 10,000 images of ten classes."""
    return base64.b64encode(zlib.compress(classes.astype(np.uint8).tobytes(), 9)).decode()


def unpack_classes(text: str) -> NDArray[np.uint8]:
    """Read what ``pack_classes`` made, ``(N,)``."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)


def read_predictions(file: Path) -> Predictions:
    """Read what ``pack_predictions`` made.

    Raises:
        OSError, ValueError, KeyError: the file is not there, or is none of these.
    """
    with np.load(file, allow_pickle=False) as stored:
        quantised = stored["quantised"].T.astype(np.float32)
        return Predictions(
            classes=stored["classes"], probabilities=quantised / np.float32(stored["levels"])
        )
