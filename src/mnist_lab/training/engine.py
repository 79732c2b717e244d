"""The ``Engine`` seam: training of a compiled model for whole epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

# Larger than any training batch: nothing is stored for gradients, so memory allows it.
VALIDATION_BATCH = 1000
Images = NDArray[np.uint8]
Labels = NDArray[Any]


class Engine(Protocol):
    """The trainer of one compiled model, which runs and measures whole epochs.

    ``precision`` is that of a step's products; it may be set before the first epoch.
    """

    precision: str

    def train(self, images: Images, labels: Labels) -> Mapping[str, float]:
        """Train on ``images (N, H, W, ...)`` and labels in this order; return loss and metrics."""

    def validate(self) -> Mapping[str, float]:
        """Return loss and metrics of the validation split."""
