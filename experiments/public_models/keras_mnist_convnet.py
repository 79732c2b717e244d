"""Keras's "Simple MNIST convnet".

Form: a function ``build_model(hp)`` without a search space. Input (28, 28, 1), pixels from 0 to 1,
one-hot labels, softmax.

Source: https://keras.io/examples/vision/mnist_convnet/ (keras-team/keras-io,
examples/vision/mnist_convnet.py).
Licence: Apache-2.0.
Changed for MNIST: nothing.
Changed for mnist-lab: the script's model is the value of a function that takes ``hp`` and does not
use it; loading, ``fit`` and ``evaluate`` are left out.
"""

import keras
from keras import layers


def build_model(hp: object) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    return model
