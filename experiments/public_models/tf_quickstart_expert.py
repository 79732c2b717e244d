"""TensorFlow's quickstart for experts: a subclassed model, which learns its input's shape when
called.

Form: a function ``build_model(hp)`` without a search space, which returns a model that is not
built yet and has no ``get_config``. Input (28, 28, 1), pixels from 0 to 1, whole-number labels,
logits; its metric is called ``sparse_categorical_accuracy``.

Source: "TensorFlow 2 quickstart for experts",
https://www.tensorflow.org/tutorials/quickstart/advanced (tensorflow/docs,
site/en/tutorials/quickstart/advanced.ipynb).
Licence of the code: Apache-2.0.
Changed for MNIST: nothing.
Changed for mnist-lab: the notebook trains in a loop of its own; here its loss, optimizer and
accuracy are given to ``compile``, in a function that takes ``hp``.
"""

from typing import Any

import tensorflow as tf
from tensorflow.keras import Model
from tensorflow.keras.layers import Conv2D, Dense, Flatten


class MyModel(Model):
    """One convolution and two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2D(32, 3, activation="relu")
        self.flatten = Flatten()
        self.d1 = Dense(128, activation="relu")
        self.d2 = Dense(10)

    def call(self, x: Any) -> Any:
        return self.d2(self.d1(self.flatten(self.conv1(x))))


def build_model(hp: object) -> tf.keras.Model:
    model = MyModel()
    model.compile(
        optimizer=tf.keras.optimizers.Adam(),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy()],
    )
    return model
