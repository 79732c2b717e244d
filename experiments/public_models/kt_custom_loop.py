"""A HyperModel that trains in a loop of its own: nothing is compiled, ``Model.fit`` is never
called.

Form: a ``HyperModel`` class; ``fit`` tunes the batch size and the learning rate, and returns the
best epoch's validation loss (lower is better). Input (28, 28, 1), whole-number labels, logits. The
loop always runs two epochs, whatever ``epochs`` says, and reports ``my_metric`` to the callbacks.

Source: "Tune hyperparameters in your custom training loop",
https://keras.io/guides/keras_tuner/custom_tuner/ (keras-team/keras-io,
guides/keras_tuner/custom_tuner.py).
Licence: Apache-2.0.
Changed for MNIST: the loop reads ``x`` and ``y``, where the guide's reads its module's arrays.
Changed for mnist-lab: nothing. (For Keras 3: ``set_model`` and ``reset_state``.)
"""

from typing import Any

import keras
import keras_tuner
import tensorflow as tf


class MyHyperModel(keras_tuner.HyperModel):
    """One hidden layer, and a training loop by hand."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        inputs = keras.Input(shape=(28, 28, 1))
        x = keras.layers.Flatten()(inputs)
        x = keras.layers.Dense(hp.Choice("units", [32, 64, 128]), activation="relu")(x)
        return keras.Model(inputs=inputs, outputs=keras.layers.Dense(10)(x))

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        x: Any,
        y: Any,
        validation_data: Any,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> float:
        batch = hp.Int("batch_size", 32, 128, step=32, default=64)
        train = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)
        held_out = tf.data.Dataset.from_tensor_slices(validation_data).batch(batch)
        rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)
        optimizer = keras.optimizers.Adam(rate)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        mean_loss = keras.metrics.Mean()

        @tf.function
        def train_step(images: Any, labels: Any) -> None:
            with tf.GradientTape() as tape:
                loss = loss_of(labels, model(images))
                if model.losses:
                    loss += tf.math.add_n(model.losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

        @tf.function
        def validation_step(images: Any, labels: Any) -> None:
            mean_loss.update_state(loss_of(labels, model(images)))

        for callback in callbacks:
            callback.set_model(model)
        best = float("inf")
        for epoch in range(2):
            for images, labels in train:
                train_step(images, labels)
            for images, labels in held_out:
                validation_step(images, labels)
            loss = float(mean_loss.result().numpy())
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_metric": loss})
            mean_loss.reset_state()
            best = min(best, loss)
        return best
