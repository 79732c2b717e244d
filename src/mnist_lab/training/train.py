"""``train``: fit a compiled model epoch by epoch, report after each, keep the best weights.

An epoch is a function of the state before it and of (seed, epoch): so a training that was cut off goes
on from its last checkpoint as if it had not been; with one thread, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data import CLASSES, Split
from mnist_lab.training.checkpoints import Checkpoint, Checkpoints
from mnist_lab.training.engine import Engine, make_engine
from mnist_lab.training.precision import FLOAT32

if TYPE_CHECKING:
    import keras

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
Arrays = list[np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How to train, whatever is trained.

    ``seed`` is that of shuffling, shifting and dropout; the weights were drawn when the model was
    built. ``one_cycle`` makes the optimizer's learning rate the peak of a cycle over all ``epochs``.
    Images are shifted by up to ``shift`` pixels each way, anew in every epoch.
    """

    epochs: int
    batch_size: int
    seed: int
    one_cycle: bool = False
    shift: int = 0


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One epoch, counted from 1; ``seconds`` is its wall time, ``timestamp`` Unix time at its end."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    timestamp: float

    def metrics(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if name in METRICS}

    @property
    def possible(self) -> bool:
        """Finite losses and accuracies in [0, 1]; anything else is no measurement."""
        losses, accuracies = (self.loss, self.val_loss), (self.accuracy, self.val_accuracy)
        return all(map(math.isfinite, losses)) and all(0.0 <= each <= 1.0 for each in accuracies)


@dataclass(frozen=True, kw_only=True)
class History:
    """What a training went through; ``precision`` is that of its steps' products."""

    epochs: tuple[EpochMetrics, ...]
    precision: str = FLOAT32

    @property
    def best(self) -> EpochMetrics:
        """The epoch with the highest validation accuracy; of equals, the lowest validation loss."""
        return max(self.epochs, key=_merit)

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.epochs)

    def scalars(self) -> dict[str, float]:
        """The best epoch's figures and the training's length, as they are logged."""
        return {
            "best_val_accuracy": self.best.val_accuracy,
            "best_val_loss": self.best.val_loss,
            "best_epoch": float(self.best.epoch),
            "fit_seconds": self.seconds,
        }


class Diverged(Exception):
    """The loss became infinite or not a number in ``epoch`` (counted from 1)."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(f"loss is not finite in epoch {epoch}")


# Told all epochs so far after each, those before an interruption included; may raise to end it there.
Report = Callable[[Sequence[EpochMetrics]], None]


def train(
    model: keras.Model,
    *,
    training: Split,
    validation: Split,
    plan: TrainingPlan,
    report: Report = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> History:
    """Fit ``model`` in place and leave it with the weights of its best epoch.

    Args:
        model: compiled for one-hot labels ``(N, 10)`` with the metric ``accuracy``.
        training: images ``(N, 28, 28) uint8``.
        validation: disjoint from ``training``.
        plan: epochs, batch size, learning rate schedule, shifts, and the seed.
        report: called after every epoch, and once for what a checkpoint brought back.
        checkpoints: where to go on from, and to write to before ``report`` is called.

    Raises:
        Diverged: the loss of an epoch is not finite.
        OSError: a checkpoint cannot be written.
    """
    _adapt_normalization(model, training)
    if plan.one_cycle:
        _set_one_cycle(model, plan.epochs * math.ceil(len(training) / plan.batch_size))
    engine = _make_engine(model, validation, plan)
    run_epoch = _epoch_runner(engine, training, plan)
    epochs, best_weights = _restore(model, engine, checkpoints)
    if epochs:
        report(tuple(epochs))
    while len(epochs) < plan.epochs:
        now = run_epoch(len(epochs) + 1)
        if not epochs or _merit(now) > max(map(_merit, epochs)):
            best_weights = model.get_weights()
        epochs.append(now)
        if checkpoints is not None:
            checkpoints.save(_checkpoint(model, engine, epochs, best_weights))
        report(tuple(epochs))
    model.set_weights(best_weights)
    return History(epochs=tuple(epochs), precision=engine.precision)


def _make_engine(model: keras.Model, validation: Split, plan: TrainingPlan) -> Engine:
    import keras

    held_out = (validation.images, keras.utils.to_categorical(validation.labels, CLASSES))
    return make_engine(model, held_out, batch_size=plan.batch_size)


def _epoch_runner(
    engine: Engine, training: Split, plan: TrainingPlan
) -> Callable[[int], EpochMetrics]:
    """A function that trains one epoch, counted from 1, and measures it."""
    import keras

    labels = keras.utils.to_categorical(training.labels, CLASSES)

    def run(epoch: int) -> EpochMetrics:
        began = time.perf_counter()
        sequence = np.random.SeedSequence([plan.seed, epoch])
        keras.utils.set_random_seed(int(sequence.generate_state(1)[0] >> 1))
        random = np.random.default_rng(sequence)
        order = random.permutation(len(training))
        images = shift_images(training.images[order], plan.shift, random)
        logs = dict(engine.train(images, labels[order]))
        logs |= {f"val_{name}": value for name, value in engine.validate().items()}
        # Keras's float32 carries seven digits; more would be shown as 0.9922000169754028.
        values = {name: float(f"{logs[name]:.7g}") for name in METRICS}
        seconds = time.perf_counter() - began
        measured = EpochMetrics(epoch=epoch, seconds=seconds, timestamp=time.time(), **values)
        if not measured.possible:
            raise Diverged(epoch)
        return measured

    return run


def shift_images(
    images: NDArray[np.uint8], pixels: int, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Move each of ``images (N, H, W)`` by up to ``pixels`` in both directions, black coming in."""
    if not pixels:
        return images
    side = 2 * pixels + 1
    moves = random.integers(0, side * side, size=len(images))
    moved = np.zeros_like(images)
    for move in range(side * side):  # all of one move at once: five times as fast as one by one
        down, right = (each - pixels for each in divmod(move, side))
        chosen = np.flatnonzero(moves == move)
        part = np.zeros((len(chosen), *images.shape[1:]), np.uint8)
        rows, columns = _overlap(down), _overlap(right)
        part[:, rows[1], columns[1]] = images[chosen][:, rows[0], columns[0]]
        moved[chosen] = part
    return moved


def _overlap(move: int) -> tuple[slice, slice]:
    """What stays in sight along one axis that moves by ``move``: where it was, and where it is."""
    end = -abs(move) or None
    return (slice(0, end), slice(move, None)) if move >= 0 else (slice(-move, None), slice(0, end))


def _set_one_cycle(model: keras.Model, steps: int) -> None:
    from mnist_lab.training.schedule import OneCycle

    model.optimizer.learning_rate = OneCycle(float(model.optimizer.learning_rate), steps)


def _checkpoint(
    model: keras.Model, engine: Engine, epochs: list[EpochMetrics], best_weights: Arrays
) -> Checkpoint:
    """Weights, seed generators, optimizer and best weights after the last of ``epochs``."""
    import keras

    parts = {"model": model.variables, "optimizer": model.optimizer.variables}
    arrays = {
        f"{part}/{index}": keras.ops.convert_to_numpy(variable)
        for part, variables in parts.items()
        for index, variable in enumerate(variables)
    }
    if max(epochs, key=_merit) is not epochs[-1]:  # else they are the model's own
        arrays |= {f"best/{index}": weights for index, weights in enumerate(best_weights)}
    state = {"epochs": [asdict(each) for each in epochs], "precision": engine.precision}
    return Checkpoint(epoch=len(epochs), arrays=arrays, state=state)


def _restore(
    model: keras.Model, engine: Engine, checkpoints: Checkpoints | None
) -> tuple[list[EpochMetrics], Arrays]:
    """Put the newest checkpoint into ``model``, and its precision into ``engine``; return its epochs
    and the weights of the best."""
    model.optimizer.build(model.trainable_variables)  # or it has no variables before the first step
    found = checkpoints.load() if checkpoints is not None else None
    # ``.keras`` would not bring back the seed generators; these are among the variables.
    parts = {"model": model.variables, "optimizer": model.optimizer.variables}
    named = {f"{part}/{i}": v for part, variables in parts.items() for i, v in enumerate(variables)}
    if found is None or not _fits(found, named):
        return [], []
    for name, variable in named.items():
        variable.assign(found.arrays[name])
    engine.precision = found.state.get("precision", FLOAT32)  # older ones had no other
    best = [found.arrays[name] for name in found.arrays if name.startswith("best/")]
    return [EpochMetrics(**each) for each in found.state["epochs"]], best or model.get_weights()


def _fits(checkpoint: Checkpoint, variables: dict[str, Any]) -> bool:
    """Whether every variable is there in its shape; another Keras may have others."""
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    arrays = checkpoint.arrays.items()
    return shapes == {name: a.shape for name, a in arrays if not name.startswith("best/")}


def _adapt_normalization(model: keras.Model, training: Split) -> None:
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt(training.images)


def _merit(epoch: EpochMetrics) -> tuple[float, float]:
    return epoch.val_accuracy, -epoch.val_loss
