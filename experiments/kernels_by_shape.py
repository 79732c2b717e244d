"""Seconds an epoch by the engine and by Keras's own fit, for images of several shapes.

    python experiments/kernels_by_shape.py [--images 6000] [--epochs 4]

Random images; the spaces' defaults; the first epoch, which compiles, is left out. In turns, one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
SHAPES = ((8, 8), (28, 28), (48, 48), (32, 32, 3), (48, 48, 3))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    from mnist_lab.training import Runtime, configure

    configure(Runtime(threads=1))
    for shape in SHAPES:
        for family in ("fnn", "cnn"):
            seconds = {
                kind: measure(family, shape, options, plain=kind == "fit")
                for kind in ("engine", "fit")
            }
            ratio = seconds["fit"] / seconds["engine"]
            print(
                f"{family} {'x'.join(map(str, shape)):8} engine {seconds['engine']:.2f} s, "
                f"fit {seconds['fit']:.2f} s, ratio {ratio:.2f}",
                flush=True,
            )


def measure(family: str, shape: tuple[int, ...], options: SimpleNamespace, *, plain: bool) -> float:
    """Return the median seconds of the epochs after the first."""
    import keras
    import numpy as np

    from mnist_lab.data.dataset import make_split
    from mnist_lab.spaces import get_space
    from mnist_lab.training import PLAIN, TrainingPlan, train

    drawing = np.random.default_rng(0)
    images = drawing.integers(0, 256, (options.images, *shape), dtype=np.uint8)
    split = make_split(images, drawing.integers(0, 10, options.images).astype(np.uint8))
    space = get_space(family, colour=len(shape) == 3).shaped(shape)
    params = space.baseline
    keras.utils.clear_session()
    model = space.build(params, shape, 10)
    if plain:
        pixels, labels = split.images, keras.utils.to_categorical(split.labels, 10)
        clock: list[float] = []

        class Clock(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                clock.append(-time.perf_counter())

            def on_epoch_end(self, epoch, logs=None):
                clock[-1] += time.perf_counter()

        model.fit(pixels, labels, batch_size=int(params["batch_size"]), epochs=options.epochs,
                  verbose=0, callbacks=[Clock()])  # fmt: skip
        return statistics.median(clock[1:])
    few = make_split(images[:64], split.labels[:64].copy())
    plan = TrainingPlan(epochs=options.epochs, batch_size=int(params["batch_size"]), seed=0)
    history = train(
        model,
        training=split,
        validation=few,
        classes=10,
        plan=plan,
        form=PLAIN,
        report=lambda _: None,
    )
    return statistics.median(epoch.seconds for epoch in history.epochs[1:])


if __name__ == "__main__":
    main()
