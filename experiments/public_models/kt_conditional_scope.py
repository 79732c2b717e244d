"""KerasTuner's examples of ``conditional_scope``: what is asked depends on what was drawn before.

``MyHyperModel`` chooses between a dense and a convolutional network. ``ConditionalHyperModel`` does
too, with scopes in scopes: every parameter but ``model_type`` and ``more_block`` hangs on another.

Form: two ``HyperModel`` classes. Input (28, 28, 1), pixels from 0 to 1, whole-number labels,
softmax.

Source: keras-team/keras-tuner, the documentation of ``HyperParameters.conditional_scope``
(keras_tuner/engine/hyperparameters/hyperparameters.py,
https://keras.io/keras_tuner/api/hyperparameters/) and ``test_init_build_all_hps_in_all_conditions``
(keras_tuner/engine/tuner_test.py).
Licence: Apache-2.0.
Changed for MNIST: the input's shape (was (32, 32, 3)); layers of ``ConditionalHyperModel`` are made
from its parameters, which the test asks for and does not use.
Changed for mnist-lab: ``MyHyperModel`` is compiled here; the example leaves that to the tuner's
arguments ``optimizer``, ``loss`` and ``metrics``.
"""

import keras
import keras_tuner
from keras import layers


def _finished(model: keras.Sequential) -> keras.Model:
    model.add(layers.Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class MyHyperModel(keras_tuner.HyperModel):
    """A dense or a convolutional network, as ``model_type`` says."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        model = keras.Sequential([keras.Input(shape=(28, 28, 1))])
        model_type = hp.Choice("model_type", ["mlp", "cnn"])
        with hp.conditional_scope("model_type", ["mlp"]):
            if model_type == "mlp":
                model.add(layers.Flatten())
                model.add(layers.Dense(32, activation="relu"))
        with hp.conditional_scope("model_type", ["cnn"]):
            if model_type == "cnn":
                model.add(layers.Conv2D(64, 3, activation="relu"))
                model.add(layers.GlobalAveragePooling2D())
        return _finished(model)


class ConditionalHyperModel(keras_tuner.HyperModel):
    """A dense or a convolutional network, each of two kinds, perhaps with one block more."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        model = keras.Sequential([keras.Input(shape=(28, 28, 1))])
        model_type = hp.Choice("model_type", ["cnn", "mlp"])
        with hp.conditional_scope("model_type", ["cnn"]):
            if model_type == "cnn":
                kind = hp.Choice("sub_cnn", ["a", "b"])
                with hp.conditional_scope("sub_cnn", ["a"]):
                    if kind == "a":
                        model.add(layers.Conv2D(hp.Int("n_filters_a", 2, 4), 3))
                with hp.conditional_scope("sub_cnn", ["b"]):
                    if kind == "b":
                        model.add(layers.Conv2D(hp.Int("n_filters_b", 6, 8), 3))
        model.add(layers.Flatten())
        with hp.conditional_scope("model_type", ["mlp"]):
            if model_type == "mlp":
                kind = hp.Choice("sub_mlp", ["a", "b"])
                with hp.conditional_scope("sub_mlp", ["a"]):
                    if kind == "a":
                        model.add(layers.Dense(hp.Int("n_units_a", 2, 4)))
                with hp.conditional_scope("sub_mlp", ["b"]):
                    if kind == "b":
                        model.add(layers.Dense(hp.Int("n_units_b", 6, 8)))
        more_block = hp.Boolean("more_block", default=False)
        with hp.conditional_scope("more_block", [True]):
            if more_block:
                for _ in range(hp.Int("new_block_hp", 1, 3)):
                    model.add(layers.Dense(32, activation="relu"))
        return _finished(model)
