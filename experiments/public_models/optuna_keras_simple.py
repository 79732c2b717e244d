"""Optuna's own Keras example: a convolution whose shape is suggested.

Form: ``build(trial, input_shape, classes)`` in Optuna's words. Input (28, 28, 1), pixels from 0 to
1, whole-number labels, softmax.

Source: optuna/optuna-examples, keras/keras_simple.py.
Licence: MIT, (c) 2018 Preferred Networks, Inc.
Changed for MNIST: nothing.
Changed for mnist-lab: ``objective(trial)`` is cut before ``model.fit`` and returns the compiled
model; the images' size and the number of classes are arguments, where the example takes them from
the data and a constant.
"""

import optuna
from keras import Model
from keras.layers import Conv2D, Dense, Flatten, Input
from keras.models import Sequential
from keras.optimizers import RMSprop


def build(trial: optuna.Trial, input_shape: tuple[int, ...], classes: int) -> Model:
    img_x, img_y = input_shape[:2]
    model = Sequential()
    model.add(Input(shape=(img_x, img_y, 1)))
    model.add(
        Conv2D(
            filters=trial.suggest_categorical("filters", [32, 64]),
            kernel_size=trial.suggest_categorical("kernel_size", [3, 5]),
            strides=trial.suggest_categorical("strides", [1, 2]),
            activation=trial.suggest_categorical("activation", ["relu", "linear"]),
        )
    )
    model.add(Flatten())
    model.add(Dense(classes, activation="softmax"))
    rate = trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=RMSprop(learning_rate=rate),
        metrics=["accuracy"],
    )
    return model
