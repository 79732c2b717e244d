"""KerasTuner's getting-started model: a loop over layers, each with its own width.

Form: a function ``build_model(hp)``. Input of any image shape (``Flatten``), pixels from 0 to 1,
one-hot labels, softmax.

Source: "Getting started with KerasTuner", the build function before "Start the search",
https://keras.io/guides/keras_tuner/getting_started/ (keras-team/keras-io,
guides/keras_tuner/getting_started.py).
Licence: Apache-2.0.
Changed for MNIST: nothing.
Changed for mnist-lab: nothing.
"""

import keras
import keras_tuner
from keras import layers


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    model = keras.Sequential([layers.Flatten()])
    for i in range(hp.Int("num_layers", 1, 3)):
        width = hp.Int(f"units_{i}", min_value=32, max_value=512, step=32)
        model.add(layers.Dense(width, activation=hp.Choice("activation", ["relu", "tanh"])))
    if hp.Boolean("dropout"):
        model.add(layers.Dropout(0.25))
    model.add(layers.Dense(10, activation="softmax"))
    rate = hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log")
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model
