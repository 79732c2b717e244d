"""KerasTuner's hello-world example, third case: a HyperModel that is told the shapes when it is
made.

Form: an instance of a ``HyperModel`` class with constructor arguments (``hypermodel``). Input (28,
28), pixels from 0 to 1, whole-number labels, softmax. Up to twenty layers, each with a width.

Source: keras-team/keras-tuner, examples/helloworld.py, "Case #3" (to be had in the repository's
history).
Licence: Apache-2.0.
Changed for MNIST: nothing.
Changed for mnist-lab: the instance, which the example makes in the call of the tuner, has a name.
(For Keras 3: an ``Input`` in place of ``Flatten``'s ``input_shape``.)
"""

import keras
import keras_tuner
from keras import layers


class MyHyperModel(keras_tuner.HyperModel):
    """Dense layers for images of ``img_size`` and ``num_classes`` classes."""

    def __init__(self, img_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        self.img_size = img_size
        self.num_classes = num_classes

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        model = keras.Sequential([keras.Input(self.img_size), layers.Flatten()])
        for i in range(hp.Int("num_layers", 2, 20)):
            model.add(layers.Dense(hp.Int("units_" + str(i), 32, 512, 32), activation="relu"))
        model.add(layers.Dense(self.num_classes, activation="softmax"))
        model.compile(
            optimizer=keras.optimizers.Adam(hp.Choice("learning_rate", [1e-2, 1e-3, 1e-4])),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return model


hypermodel = MyHyperModel(img_size=(28, 28), num_classes=10)
