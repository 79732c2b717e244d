"""A model of somebody else's through ``sweep``, against the same model through plain Keras ``fit``.

``python experiments/as_written.py [--seeds 5] [--epochs 3]``: four models that an earlier version
trained otherwise than they were written. Each is swept five times at its only point, with five seeds,
and fitted by Keras with five others, on the same 10,000 + 2,000 images of MNIST. Prints mean and
standard deviation of the best validation accuracy, and Welch's t test of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

IMAGES = 12_000


def _stack(*front, last="softmax"):
    return keras.Sequential(
        [*front, layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10, activation=last)]
    )


def own_rescaling(hp):
    model = _stack(layers.Rescaling(1 / 255))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def logits_in_a_function(hp):
    def loss(y, p):
        return keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True)

    model = _stack(last=None)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def own_loss(hp):
    """Mean squared error on one-hot labels, of which the gradient is much smaller."""

    def loss(y, p):
        return keras.ops.mean(keras.ops.square(y - p), axis=-1)

    model = _stack()
    model.compile(keras.optimizers.SGD(0.5), loss, metrics=["accuracy"])
    return model


class Halved(keras.Model):
    """Learns from every other step only."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            p = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=p)
        wanted = tf.cast(self.optimizer.iterations % 2 == 0, tf.float32)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply([g * wanted for g in gradients], self.trainable_variables)
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, p)
        return {metric.name: metric.result() for metric in self.metrics}


def own_train_step(hp):
    pixels = keras.Input((28, 28))
    x = layers.Dense(64, "relu")(layers.Flatten()(pixels))
    model = Halved(pixels, layers.Dense(10, activation="softmax")(x))
    model.compile(
        keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


# What each is fed with by its author: the divisor of its pixels, and whether labels are one-hot.
MODELS = {
    own_rescaling: (1.0, False),
    logits_in_a_function: (255.0, False),
    own_loss: (255.0, True),
    own_train_step: (255.0, False),
}


def main() -> None:
    from scipy import stats

    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    with np.load(str(files("mnist_lab.data") / "mnist.npz")) as whole:
        images, labels = whole["x_train"][:IMAGES], whole["y_train"][:IMAGES]
        parts = {"x_test": whole["x_test"][:1000], "y_test": whole["y_test"][:1000]}
    print("| model | sweep | plain `fit` | difference, points | p (Welch) | n |")
    print("|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        np.savez(data, x_train=images, y_train=labels, **parts)
        for model, (divisor, one_hot) in MODELS.items():
            ours = swept(model.__name__, data, Path(folder), given.seeds, given.epochs)
            plain = [
                fitted(model, images / divisor, labels, one_hot, seed + 1000, given.epochs)
                for seed in range(given.seeds)
            ]
            means = [f"{np.mean(x):.2%} ± {np.std(x, ddof=1):.2%}" for x in (ours, plain)]
            gap = 100 * (np.mean(ours) - np.mean(plain))
            p = stats.ttest_ind(ours, plain, equal_var=False).pvalue
            print(
                f"| {model.__name__} | {' | '.join(means)} | {gap:+.2f} | {p:.2f} | {len(ours)} |"
            )


def swept(name: str, data: Path, folder: Path, seeds: int, epochs: int) -> list[float]:
    words = [
        "sweep", f"{Path(__file__).resolve()}:{name}", "--trials", seeds, "--epochs", epochs,
        "--dataset", data, "--pruner", "none", "--json",
    ]  # fmt: skip
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mnist-lab"), *map(str, words)],
        env={**os.environ, "MNIST_LAB_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    return [row["val_accuracy"] for row in json.loads(done.stdout)["leaderboard"]]


def fitted(model, images, labels, one_hot: bool, seed: int, epochs: int) -> float:
    keras.utils.set_random_seed(seed)
    labels = keras.utils.to_categorical(labels, 10) if one_hot else labels
    cut = len(labels) - len(labels) // 6
    history = model(None).fit(
        images[:cut].astype("float32"),
        labels[:cut],
        validation_data=(images[cut:].astype("float32"), labels[cut:]),
        epochs=epochs,
        verbose=0,
    )
    return max(history.history["val_accuracy"])


if __name__ == "__main__":
    main()
