"""Seconds an epoch on a GPU: our engine, and Keras's ``fit`` with XLA, its default there, and without.

    python experiments/gpu.py
    KERAS_BACKEND=jax python experiments/gpu.py --ways fit+xla

The defaults of ``fnn`` and ``cnn`` (the notebook's models), 50,000 images of the real MNIST in one
order and the 10,000 of validation. The first epoch pays for tracing and compiling and is told apart;
of the others the median.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import keras

from mnist_lab.data import Dataset, load_dataset
from mnist_lab.execution import plan_workers
from mnist_lab.spaces import get_space
from mnist_lab.training import configure
from mnist_lab.training.engines import make_engine
from mnist_lab.training.fit import FitEngine

WAYS = ("fit", "fit+xla", "graph")


def measure(family: str, way: str, dataset: Dataset, epochs: int) -> tuple[list[float], float]:
    """Seconds of each epoch, and the validation accuracy after the last."""
    space = get_space(family)
    keras.utils.set_random_seed(0)
    model = space.build(space.defaults, dataset.form.shape, dataset.classes)
    model.jit_compile = way.endswith("+xla")
    held_out = dataset.validation.images, one_hot(dataset.validation.labels)
    make = FitEngine if way.startswith("fit") else make_engine
    engine = make(model, held_out, batch_size=int(space.defaults["batch_size"]))
    labels = one_hot(dataset.train.labels)
    seconds = []
    for _ in range(epochs):
        began = time.perf_counter()
        engine.train(dataset.train.images, labels)
        accuracy = engine.validate()["accuracy"]
        seconds.append(time.perf_counter() - began)
    return seconds, accuracy


def one_hot(labels):
    """``(N, 10) float32``."""
    return keras.utils.to_categorical(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="gpu", help="cpu, gpu or gpu:1")
    parser.add_argument("--families", default="fnn,cnn")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    [runtime] = plan_workers(workers=1, device=options.device)
    configure(runtime)
    dataset = load_dataset()
    print(f"{keras.config.backend()}, {options.device}")
    for family in options.families.split(","):
        for way in options.ways.split(","):
            seconds, accuracy = measure(family, way, dataset, options.epochs)
            first, rest = seconds[0], seconds[1:]
            print(
                f"{family}  {way:10} first {first:6.2f} s, then {median(rest):6.3f} s "
                f"({min(rest):.3f} .. {max(rest):.3f}, n={len(rest)}), {accuracy:.2%}",
                flush=True,
            )
            keras.utils.clear_session()


if __name__ == "__main__":
    main()
