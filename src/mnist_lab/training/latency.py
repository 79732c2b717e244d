"""How long a model takes for one image."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

CALLS = 30


def measure_latency(model: keras.Model, image: NDArray[np.uint8]) -> float:
    """Return the milliseconds for one ``image (1, H, W)`` or ``(1, H, W, 3)``.

    They are the median of ``CALLS`` calls of ``predict_on_batch`` in this process, with its threads or
    its device; a first call, which compiles, is not counted.
    """
    model.predict_on_batch(image)
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        model.predict_on_batch(image)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)
