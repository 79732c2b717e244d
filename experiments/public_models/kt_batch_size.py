"""A HyperModel whose ``fit`` is overridden to tune the batch size and the shuffling.

Form: a ``HyperModel`` class; ``fit(hp, model, *args, **kwargs)`` names ``batch_size`` and
``shuffle`` itself, so whoever calls it must not pass them. Input of any image shape, pixels from 0
to 1, one-hot labels, softmax.

Source: "Getting started with KerasTuner", section "Tune model training" (the class, and
``shuffle``), https://keras.io/guides/keras_tuner/getting_started/#tune-model-training; the batch
size in ``fit`` is the way that the maintainers recommend in keras-team/keras-tuner issue 122, with
the choices that many users have taken over.
Licence: Apache-2.0 (the guide; from the issue only the idea is taken).
Changed for MNIST: nothing.
Changed for mnist-lab: nothing.
"""

from typing import Any

import keras
import keras_tuner
from keras import layers


class MyHyperModel(keras_tuner.HyperModel):
    """One hidden layer, and training with a tuned batch size."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        units = hp.Int("units", min_value=32, max_value=512, step=32)
        model = keras.Sequential(
            [
                layers.Flatten(),
                layers.Dense(units, activation="relu"),
                layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any
    ) -> Any:
        return model.fit(
            *args,
            batch_size=hp.Choice("batch_size", [16, 32]),
            shuffle=hp.Boolean("shuffle"),
            **kwargs,
        )
