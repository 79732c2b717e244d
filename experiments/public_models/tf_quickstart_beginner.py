"""TensorFlow's quickstart for beginners: dropout, and logits.

Form: a function ``build_model(hp)`` without a search space. Input (28, 28), pixels from 0 to 1,
whole-number labels, logits.

Source: "TensorFlow 2 quickstart for beginners",
https://www.tensorflow.org/tutorials/quickstart/beginner (tensorflow/docs,
site/en/tutorials/quickstart/beginner.ipynb).
Licence of the code: Apache-2.0.
Changed for MNIST: nothing.
Changed for mnist-lab: the notebook's model is the value of a function that takes ``hp``. (For
Keras 3: an ``Input`` in place of ``Flatten``'s ``input_shape``.)
"""

import tensorflow as tf


def build_model(hp: object) -> tf.keras.Model:
    model = tf.keras.models.Sequential(
        [
            tf.keras.Input((28, 28)),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(128, activation="relu"),
            tf.keras.layers.Dropout(0.2),
            tf.keras.layers.Dense(10),
        ]
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    return model
