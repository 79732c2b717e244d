"""Several models as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def join(networks: Sequence[keras.Model]) -> keras.Model:
    """Return one plain Keras model whose probabilities are the mean of those of ``networks``.

    All take the same images. A single one is returned as it is; weights are shared.
    """
    import keras

    if len(networks) == 1:
        return networks[0]
    images = networks[0].inputs[0]
    pixels = keras.Input(images.shape[1:], dtype=images.dtype, name="pixels")
    members = [
        keras.Model(each.inputs[0], each.outputs[0], name=f"member_{number}")
        for number, each in enumerate(networks, start=1)
    ]
    mean = keras.layers.Average(dtype="float32", name="mean")
    return keras.Model(pixels, mean([each(pixels) for each in members]), name="ensemble")
