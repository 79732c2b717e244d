"""TensorFlow's image-classification tutorial: augmentation and rescaling are layers of the model.

Form: a function ``build_model(hp)`` without a search space. Input (28, 28, 1), pixels from 0 to
255 (the model divides by 255 itself), whole-number labels, logits.

Source: "Image classification", sections "Data augmentation" and "Dropout",
https://www.tensorflow.org/tutorials/images/classification (tensorflow/docs,
site/en/tutorials/images/classification.ipynb).
Licence of the code: Apache-2.0.
Changed for MNIST: the input's shape (was (180, 180, 3)), ten classes (were five flowers), and no
``RandomFlip("horizontal")``, as digits in a mirror are not digits.
Changed for mnist-lab: the notebook's model is the value of a function that takes ``hp``.
"""

import keras
import tensorflow as tf
from tensorflow.keras import layers


def build_model(hp: object) -> keras.Model:
    data_augmentation = keras.Sequential(
        [keras.Input((28, 28, 1)), layers.RandomRotation(0.1), layers.RandomZoom(0.1)]
    )
    model = keras.Sequential([data_augmentation, layers.Rescaling(1.0 / 255)])
    for filters in (16, 32, 64):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Dropout(0.2))
    model.add(layers.Flatten())
    model.add(layers.Dense(128, activation="relu"))
    model.add(layers.Dense(10))
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    return model
