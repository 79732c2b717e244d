"""Train the public models of this folder with plain Keras, as their sources do, without mnist-lab.

python experiments/public_models/plain.py [NAME ...] --images 2000 --epochs 1

``MODELS`` says of each file what its source feeds it. ``plain_fit`` is the yardstick to hold
mnist-lab's accuracy against: the same model, images, epochs and seed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

HERE = Path(__file__).resolve().parent
MNIST = HERE.parents[1] / "src" / "mnist_lab" / "data" / "mnist.npz"


@dataclass(frozen=True)
class Public:
    """What a public model is called in its file, and the data that its source feeds it."""

    attribute: str
    file: str = ""  # the model's name, unless a file holds two
    shape: tuple[int, ...] = (28, 28, 1)
    one_hot: bool = False
    scale: float = 255.0  # what the source divides the pixels by before the model sees them
    batch: int | None = None  # given to fit, where the source gives it
    tuned: bool = True  # has a search space
    values: Mapping[str, Any] = field(default_factory=dict)  # Optuna knows no defaults


MODELS = {
    "kt_getting_started": Public("build_model", one_hot=True),
    "kt_batch_size": Public("MyHyperModel", one_hot=True),
    "kt_custom_loop": Public("MyHyperModel"),
    "kt_conditional_scope": Public("MyHyperModel"),
    "kt_conditional_scope_2": Public("ConditionalHyperModel", "kt_conditional_scope"),
    "kt_helloworld": Public("hypermodel", shape=(28, 28)),
    "handson_ml3": Public("MyClassificationHyperModel", shape=(28, 28)),
    "handson_ml3_2": Public("build_model", "handson_ml3", shape=(28, 28)),
    "keras_mnist_convnet": Public("build_model", one_hot=True, batch=128, tuned=False),
    "keras_train_step": Public("build_model", shape=(784,), tuned=False),
    "keras_toy_resnet": Public("build_model", one_hot=True, batch=64, tuned=False),
    "tf_quickstart_beginner": Public("build_model", shape=(28, 28), tuned=False),
    "tf_quickstart_expert": Public("build_model", tuned=False),
    "tf_augmentation": Public("build_model", scale=1.0, tuned=False),
    "optuna_keras_simple": Public(
        "build",
        batch=128,
        values={
            "filters": 32,
            "kernel_size": 3,
            "strides": 1,
            "activation": "relu",
            "learning_rate": 1e-3,
        },
    ),
}


def load(name: str) -> Any:
    """Return the class, instance or function that the file of model ``name`` offers."""
    public = MODELS[name]
    stem = public.file or name
    spec = importlib.util.spec_from_file_location(f"public_{stem}", HERE / f"{stem}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, public.attribute)


def data(name: str, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, 28, 28) uint8`` and whole-number labels, in the form that the source uses."""
    public = MODELS[name]
    x = images.reshape(-1, *public.shape).astype("float32") / public.scale
    return x, np.eye(10, dtype="float32")[labels] if public.one_hot else labels.astype("int64")


def plain_fit(
    name: str,
    seed: int,
    epochs: int,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    values: Mapping[str, Any] | None = None,
) -> float:
    """Build model ``name``, train it as its source does, and return its validation accuracy.

    ``validation`` is images and labels; without it, the last fifth of ``images`` is held out.
    ``values`` replace the hyperparameters' defaults. The accuracy is counted from the predictions,
    so that it does not depend on the model's own metrics. ``kt_custom_loop`` runs two epochs
    whatever ``epochs`` says, as its source does.
    """
    import keras
    import keras_tuner
    import optuna

    if validation is None:
        cut = len(images) * 4 // 5
        validation = images[cut:], labels[cut:]
        images, labels = images[:cut], labels[:cut]
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    public, source = MODELS[name], load(name)
    x, y = data(name, images, labels)
    held_out = data(name, *validation)
    kwargs: dict[str, Any] = {"validation_data": held_out, "epochs": epochs, "verbose": 0}
    if public.batch is not None:
        kwargs["batch_size"] = public.batch
    if public.attribute == "build":
        trial = optuna.trial.FixedTrial({**public.values, **(values or {})})
        model = source(trial, public.shape, 10)
        model.fit(x, y, **kwargs)
    else:
        hp = keras_tuner.HyperParameters()
        hp.values.update(values or {})
        hypermodel = source() if isinstance(source, type) else source
        if isinstance(hypermodel, keras_tuner.HyperModel):
            model = hypermodel.build(hp)
            hypermodel.fit(hp, model, x, y, callbacks=[], **kwargs)
        else:
            model = hypermodel(hp)
            model.fit(x, y, **kwargs)
    guessed = model.predict(held_out[0], verbose=0).argmax(axis=-1)
    return float(np.mean(guessed == validation[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(MODELS), help="Models; default: all.")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with np.load(MNIST) as mnist:
        images, labels = mnist["x_train"][: args.images], mnist["y_train"][: args.images]
        validation = mnist["x_test"][:1000], mnist["y_test"][:1000]
    print(f"{args.epochs} epoch(s) on {len(images)} images, accuracy on 1,000 test images")
    print(f"{'model':<24}{'input':<14}{'labels':<9}{'accuracy':>9}{'seconds':>9}")
    for name in args.names:
        public, began = MODELS[name], time.perf_counter()
        accuracy = plain_fit(name, args.seed, args.epochs, images, labels, validation=validation)
        seconds = time.perf_counter() - began
        form = "one-hot" if public.one_hot else "whole"
        print(f"{name:<24}{public.shape!s:<14}{form:<9}{accuracy:>9.3f}{seconds:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
