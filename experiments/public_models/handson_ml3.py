"""The hypermodel of a textbook: layers, width, learning rate, optimizer, and whether to normalise.

Form: a ``HyperModel`` class with ``fit(hp, model, X, y, **kwargs)``: the data come by position and
the first is called ``X``; and the function ``build_model(hp)``. Input of any image shape, pixels
from 0 to 1, whole-number labels, softmax. ``normalize`` is asked in ``fit``, and there the
training images only are normalised, as in the book: validation sees them as they were, so that
"normalised" trials score badly.

Source: A. Géron, Hands-On Machine Learning with Scikit-Learn, Keras and TensorFlow, 3rd edition,
chapter 10, "Fine-Tuning Neural Network Hyperparameters"; ageron/handson-ml3,
10_neural_nets_with_keras.ipynb.
Licence of the notebooks: Apache-2.0.
Changed for MNIST: nothing (the book's images are Fashion-MNIST's).
Changed for mnist-lab: nothing.
"""

from typing import Any

import keras_tuner as kt
import tensorflow as tf


def build_model(hp: kt.HyperParameters) -> tf.keras.Model:
    n_hidden = hp.Int("n_hidden", min_value=0, max_value=8, default=2)
    n_neurons = hp.Int("n_neurons", min_value=16, max_value=256)
    learning_rate = hp.Float("learning_rate", min_value=1e-4, max_value=1e-2, sampling="log")
    optimizers = {"sgd": tf.keras.optimizers.SGD, "adam": tf.keras.optimizers.Adam}
    optimizer = optimizers[hp.Choice("optimizer", values=["sgd", "adam"])]
    model = tf.keras.Sequential([tf.keras.layers.Flatten()])
    for _ in range(n_hidden):
        model.add(tf.keras.layers.Dense(n_neurons, activation="relu"))
    model.add(tf.keras.layers.Dense(10, activation="softmax"))
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=optimizer(learning_rate=learning_rate),
        metrics=["accuracy"],
    )
    return model


class MyClassificationHyperModel(kt.HyperModel):
    """The model of ``build_model``; whether to normalise the images is tuned too."""

    def build(self, hp: kt.HyperParameters) -> tf.keras.Model:
        return build_model(hp)

    def fit(
        self,
        hp: kt.HyperParameters,
        model: tf.keras.Model,
        X: Any,  # noqa: N803 - the book's name
        y: Any,
        **kwargs: Any,
    ) -> Any:
        if hp.Boolean("normalize"):
            normalization = tf.keras.layers.Normalization()
            normalization.adapt(X)
            X = normalization(X)  # noqa: N806
        return model.fit(X, y, **kwargs)
