"""The toy ResNet of Keras's guide to the functional API: a graph with shortcuts.

Form: a function ``build_model(hp)`` without a search space. Input (28, 28, 1), pixels from 0 to 1,
one-hot labels, logits; its metric is called ``acc``.

Source: "The Functional API", section "A toy ResNet model", https://keras.io/guides/functional_api/
(keras-team/keras-io, guides/functional_api.py).
Licence: Apache-2.0.
Changed for MNIST: the input's shape (was CIFAR-10's (32, 32, 3)).
Changed for mnist-lab: the script's model is the value of a function that takes ``hp``.
"""

import keras
from keras import layers


def build_model(hp: object) -> keras.Model:
    inputs = keras.Input(shape=(28, 28, 1), name="img")
    x = layers.Conv2D(32, 3, activation="relu")(inputs)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.MaxPooling2D(3)(x)
    for _ in range(2):
        shortcut = x
        x = layers.Conv2D(64, 3, activation="relu", padding="same")(x)
        x = layers.Conv2D(64, 3, activation="relu", padding="same")(x)
        x = layers.add([x, shortcut])
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(256, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    model = keras.Model(inputs, layers.Dense(10)(x), name="toy_resnet")
    model.compile(
        optimizer=keras.optimizers.RMSprop(1e-3),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["acc"],
    )
    return model
