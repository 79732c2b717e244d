"""A space file as strangers write them: every form, loss, label, output and class that is met."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from keras import layers

LOSSES = keras.losses
SPARSE = "sparse_categorical_crossentropy"


def dense(*front, loss=SPARSE, metrics=("accuracy",), last="softmax"):
    model = keras.Sequential([*front, layers.Flatten(), layers.Dense(10, activation=last)])
    model.compile(optimizer="adam", loss=loss, metrics=list(metrics))
    return model


def own_rescaling(hp):
    return dense(layers.Rescaling(1 / 255))


def own_normalization(hp):
    from mnist_lab.data import load_dataset

    norm = layers.Normalization(axis=None)
    norm.adapt(load_dataset().train.images[:1000].astype("float32"))
    return dense(norm)


def no_scaling(hp):
    return dense()


def logits_in_a_function(hp):
    def loss(y, p):
        return LOSSES.categorical_crossentropy(y, p, from_logits=True)

    return dense(loss=loss, last=None)


def logits_in_an_object(hp):
    return dense(loss=LOSSES.SparseCategoricalCrossentropy(from_logits=True), last=None)


def sigmoids(hp):
    return dense(loss="binary_crossentropy", last="sigmoid", metrics=["categorical_accuracy"])


def tuned_loss(hp):
    return dense(loss=hp.Choice("loss", [SPARSE, "categorical_crossentropy"]))


def several_metrics(hp):
    top = keras.metrics.SparseTopKCategoricalAccuracy(3, name="top3")
    return dense(metrics=["accuracy", top])


def no_metric(hp):
    return dense(metrics=())


def convolution_without_input(hp):
    model = keras.Sequential(
        [layers.Conv2D(4, 3, strides=3), layers.Flatten(), layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def dense_on_784(hp):
    model = keras.Sequential([layers.Dense(10, activation="softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=["acc"])
    return model


def augmented(hp):
    return dense(layers.RandomRotation(0.05))


class Subclassed(keras.Model):
    """No ``get_config``, and an argument that Keras cannot describe."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.flat = layers.Flatten()
        self.out = layers.Dense(10)

    def call(self, x):
        return self.out(self.function(self.flat(x)))


def subclassed(hp):
    model = Subclassed(lambda x: 2 * x)
    loss = LOSSES.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


class OwnStep(keras.Model):
    """Trains by its own step, and notes that it did in a weight that no optimizer touches."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")
        self.mean = keras.metrics.Mean(name="loss")
        self.right = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    @property
    def metrics(self):
        return [self.mean, self.right]

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            p = self(x, training=True)
            loss = tf.reduce_mean(LOSSES.sparse_categorical_crossentropy(y, p))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.steps.assign_add(1.0)
        self.mean.update_state(loss)
        self.right.update_state(y, p)
        return {"loss": self.mean.result(), "accuracy": self.right.result()}


def own_train_step(hp):
    pixels = keras.Input((28, 28))
    x = layers.Flatten()(pixels)
    model = OwnStep(pixels, layers.Dense(10, activation="softmax")(x))
    model.compile(optimizer="adam")
    return model


def zero_logits(hp):
    """Its outputs are all 0 before it is trained."""
    model = keras.Sequential([layers.Flatten(), layers.Dense(10, kernel_initializer="zeros")])

    def loss(y, p):
        return LOSSES.sparse_categorical_crossentropy(y, p, from_logits=True)

    model.compile("adam", loss, metrics=["accuracy"])
    return model


def another_accuracy(hp):
    top = keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5_accuracy")
    return dense(metrics=[top])


def recurrent(hp):
    model = keras.Sequential(
        [layers.Rescaling(1 / 255), layers.LSTM(8), layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", SPARSE, metrics=["accuracy"])
    return model


def binarised(hp):
    return dense(keras.Input((28, 28)), layers.Lambda(lambda x: keras.ops.cast(x > 127, "float32")))


def tokens(hp):
    return dense(layers.Flatten(), layers.Embedding(256, 2))


def silent_about_labels(hp):
    """An own loss that takes one-hot labels without a word, and learns from whole ones only."""

    def loss(y, p):
        chosen = tf.gather(tf.nn.log_softmax(p), tf.cast(y, tf.int32), batch_dims=1)
        return -tf.reduce_mean(tf.cast(chosen, tf.float32))

    return dense(loss=loss, last=None, metrics=())


def two_outputs(hp):
    pixels = keras.Input((28, 28))
    flat = layers.Flatten()(pixels)
    model = keras.Model(pixels, [layers.Dense(10)(flat), layers.Dense(10)(flat)])
    model.compile("adam", "mse")
    return model


def returns_nothing(hp):
    dense()


def not_compiled(hp):
    return keras.Sequential([layers.Flatten(), layers.Dense(10)])


def three_classes(hp):
    model = keras.Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")])
    model.compile("adam", SPARSE, metrics=["accuracy"])
    return model


def colour(hp):
    return dense(keras.Input((32, 32, 3)))


class Loops(keras_tuner.HyperModel):
    """KerasTuner's own guide: names made in a loop, of which the default build makes one."""

    def build(self, hp):
        stack = [layers.Flatten()]
        for i in range(hp.Int("num_layers", 1, 3)):
            stack.append(layers.Dense(hp.Int(f"units_{i}", 8, 32, step=8), activation="relu"))
        model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
        rate = hp.Float("lr", 1e-3, 1e-2, sampling="log")
        model.compile(keras.optimizers.Adam(rate), SPARSE, metrics=["accuracy"])
        return model


class TwoBranches(keras_tuner.HyperModel):
    """One name in two scopes, which KerasTuner tells apart by their conditions."""

    def build(self, hp):
        kind = hp.Choice("kind", ["small", "large"])
        with hp.conditional_scope("kind", ["small"]):
            small = hp.Int("units", 2, 4)
        with hp.conditional_scope("kind", ["large"]):
            large = hp.Int("units", 64, 128)
        return dense(layers.Flatten(), layers.Dense(small if kind == "small" else large))


class PlainFit(keras_tuner.HyperModel):
    """Tunes how it is trained, as KerasTuner's guide does."""

    def build(self, hp):
        return dense()

    def fit(self, hp, model, *args, **kwargs):
        size = hp.Choice("batch_size", [32, 64])
        return model.fit(*args, batch_size=size, shuffle=hp.Boolean("shuffle"), **kwargs)


class OwnLoop(keras_tuner.HyperModel):
    """A loop that knows nothing of ``epochs`` and ``initial_epoch``, and reports its own metric."""

    def build(self, hp):
        return keras.Sequential([layers.Flatten(), layers.Dense(10)])

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(hp.Int("batch", 32, 64, step=32))
        loss = LOSSES.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.Adam(1e-2)
        for epoch in range(3):
            for images, labels in batches:
                with tf.GradientTape() as tape:
                    value = loss(labels, model(images))
                gradients = tape.gradient(value, model.trainable_variables)
                optimizer.apply(gradients, model.trainable_variables)
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_metric": 1.0})


class OwnValidation(PlainFit):
    """Validates on a part of what it is given to train."""

    def fit(self, hp, model, x, y, callbacks=None, **kwargs):
        return model.fit(x, y, validation_split=0.3, epochs=2, callbacks=callbacks, verbose=0)


class StopsEarly(PlainFit):
    def fit(self, hp, model, *args, callbacks=None, **kwargs):
        stop = keras.callbacks.EarlyStopping("val_loss", min_delta=10.0, patience=1)
        return model.fit(*args, callbacks=[*callbacks, stop], **kwargs)


class Swallows(PlainFit):
    """Reports an infinite loss, and does not care what is said to it."""

    def fit(self, hp, model, x, y, callbacks=None, **kwargs):
        for callback in callbacks:
            try:
                callback.on_epoch_end(0, {"loss": float("inf"), "accuracy": 0.5})
            except Exception:
                continue


class Silent(PlainFit):
    """Keeps the callbacks for itself."""

    def fit(self, hp, model, x, y, **kwargs):
        return model.fit(x, y, verbose=0)


class MoreEpochs(PlainFit):
    def fit(self, hp, model, *args, **kwargs):
        kwargs["epochs"] = 9
        return model.fit(*args, **kwargs)


class OwnEpochs(PlainFit):
    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, epochs=hp.Int("epochs", 1, 3), **kwargs)


class KnownArguments(keras_tuner.HyperModel):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.shape = input_shape
        self.classes = num_classes

    def build(self, hp):
        return dense(keras.Input(self.shape))


class UnknownArguments(keras_tuner.HyperModel):
    def __init__(self, width):
        super().__init__()
        self.width = width

    def build(self, hp):
        return dense(layers.Flatten(), layers.Dense(self.width))


instance = UnknownArguments(4)


def build(trial, input_shape, classes):
    """Optuna's words."""
    stack = [keras.Input(input_shape), layers.Flatten()]
    for i in range(trial.suggest_int("n_layers", 1, 2)):
        units = trial.suggest_int(f"n_units_l{i}", 4, 32, log=True)
        stack.append(
            layers.Dense(units, activation=trial.suggest_categorical("act", ["relu", "elu"]))
        )
    model = keras.Sequential([*stack, layers.Dense(classes, activation="softmax")])
    rate = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    model.compile(keras.optimizers.SGD(rate), SPARSE, metrics=["accuracy"])
    return model


def objective(trial):
    model = dense()
    trial.report(0.5, 1)
    return model


class Choice:
    pass


def odd_choices(trial):
    trial.suggest_categorical("optimizer", [Choice, dict])


def numpys_choices(trial):
    return dense(layers.Flatten(), layers.Dense(trial.suggest_categorical("n", np.array([4, 8]))))


def old_words(trial):
    return dense(layers.Dropout(trial.suggest_uniform("rate", 0, 0.5)))


def takes_too_much(hp, width):
    return dense()
