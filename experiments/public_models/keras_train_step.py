"""Keras's guide to a ``train_step`` of one's own.

Form: a function ``build_model(hp)`` without a search space, which returns a subclass of
``keras.Model`` with ``train_step`` overridden. Input: 784 numbers from 0 to 1, whole-number
labels, softmax.

Source: "Customizing what happens in fit() with TensorFlow", the first example,
https://keras.io/guides/custom_train_step_in_tensorflow/ (keras-team/keras-io,
guides/custom_train_step_in_tensorflow.py).
Licence: Apache-2.0.
Changed for MNIST: 784 inputs and 10 outputs with a cross-entropy and the accuracy (were 32 inputs
and one output with ``mse`` and ``mae``).
Changed for mnist-lab: the script's model is the value of a function that takes ``hp``.
"""

from typing import Any

import keras
import tensorflow as tf


class CustomModel(keras.Model):
    """A model that takes its gradient steps by hand."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


def build_model(hp: object) -> keras.Model:
    inputs = keras.Input(shape=(784,))
    model = CustomModel(inputs, keras.layers.Dense(10, activation="softmax")(inputs))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
