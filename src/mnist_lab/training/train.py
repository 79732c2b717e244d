"""``train``: fit a compiled model epoch by epoch, report after each, keep the best weights.

An epoch is a function of the state before it and of (seed, epoch): so an interrupted training goes on
from its last checkpoint as if it had not been; with one thread, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.config import VAL_ACCURACY
from mnist_lab.data import Split
from mnist_lab.training.checkpoints import Checkpoints
from mnist_lab.training.engine import VALIDATION_BATCH, Engine
from mnist_lab.training.engines import make_engine
from mnist_lab.training.epochs import (
    Diverged,
    EpochMetrics,
    History,
    Report,
    as_measured,
    is_better,
)
from mnist_lab.training.form import PLAIN, ModelForm, around
from mnist_lab.training.objectives import MEASURES
from mnist_lab.training.state import read_checkpoint_into, take_checkpoint

if TYPE_CHECKING:
    import keras


MEASURED_IMAGES = 10_000  # of training, for the accuracy of models that report none


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """The settings of a training outside its model: epochs, batches, seed, schedule, shifts.

    ``seed`` is that of shuffling, shifting and dropout; the weights were drawn when the model was
    built. ``one_cycle`` makes the optimizer's learning rate the peak of a cycle over all ``epochs``.
    Images are shifted by up to ``shift`` pixels each way, and with ``flip`` mirrored left to right half
    of the time, anew in every epoch. ``objective`` is what the best epoch is chosen by. ``balanced``:
    an epoch draws as many images as there are, with repetition, of every class equally often.
    ``keeps_last``: the weights of the last epoch are kept, so that no image has chosen an epoch.
    """

    epochs: int
    batch_size: int
    seed: int
    one_cycle: bool = False
    shift: int = 0
    flip: bool = False
    objective: str = VAL_ACCURACY
    balanced: bool = False
    keeps_last: bool = False


def train(
    model: keras.Model,
    *,
    training: Split,
    validation: Split,
    plan: TrainingPlan,
    form: ModelForm = PLAIN,
    classes: int | None = None,
    report: Report = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> History:
    """Fit ``model`` in place; leave it with the weights of its best epoch, or of its last.

    Args:
        model: compiled; takes images and labels in ``form``.
        training: images ``(N, H, W)`` or ``(N, H, W, 3) uint8``.
        validation: disjoint from ``training``.
        plan: epochs, batch size, learning rate schedule, shifts, and the seed.
        form: by default raw pixels, one-hot labels ``(N, classes)``, and the metric ``accuracy``.
        classes: how many there are; by default as many as the training labels name.
        report: called after every epoch, and once for the epochs of a checkpoint.
        checkpoints: where to go on from, and to write to before ``report`` is called.

    Raises:
        Diverged: the loss of an epoch is not finite.
        OSError: a checkpoint cannot be written.
    """
    classes = classes or int(training.labels.max()) + 1
    _adapt_normalization(model, training, form)
    if plan.one_cycle:
        _set_one_cycle(model, plan.epochs * math.ceil(len(training) / plan.batch_size))
    held_out = (validation.images, form.label(validation.labels, classes))
    engine = make_engine(model, held_out, batch_size=plan.batch_size, form=form)
    run_epoch = _epoch_runner(
        _Measured(engine, model, training, validation, form, plan.objective),
        training,
        plan,
        labels=form.label(training.labels, classes),
    )
    epochs, best_weights = _restore(model, engine, checkpoints)
    if epochs:
        report(tuple(epochs))
    while len(epochs) < plan.epochs:
        now = run_epoch(len(epochs) + 1)
        if is_better(now, epochs):
            best_weights = model.get_weights()
        epochs.append(now)
        if checkpoints is not None:
            checkpoints.save(take_checkpoint(model, epochs, best_weights, engine.precision))
        report(tuple(epochs))
    if not plan.keeps_last:
        model.set_weights(best_weights)
    return History(epochs=tuple(epochs), precision=engine.precision, keeps_last=plan.keeps_last)


def score(
    whole: keras.Model,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    objective: str = VAL_ACCURACY,
) -> dict[str, float]:
    """Compute cross-entropy and accuracy of a model with pixels in and probabilities out.

    Also ``objective``, without its ``val_``, if it is one of ``MEASURES``.
    """
    found = whole.predict(images, batch_size=VALIDATION_BATCH, verbose=0)
    likelihoods = np.clip(found[np.arange(len(labels)), labels], 1e-7, 1.0)
    return {
        "loss": float(-np.log(likelihoods).mean()),
        "accuracy": float((found.argmax(axis=1) == labels).mean()),
        **_measure(objective, found, labels),
    }


def _measure(
    objective: str, probabilities: NDArray[np.float32], labels: NDArray[np.uint8]
) -> dict[str, float]:
    if objective not in MEASURES:
        return {}
    return {objective.removeprefix("val_"): MEASURES[objective](probabilities, labels)}


class _Measured:
    """An engine whose figures have the names of ``EpochMetrics``; missing ones are computed."""

    def __init__(
        self,
        engine: Engine,
        model: keras.Model,
        training: Split,
        validation: Split,
        form: ModelForm,
        objective: str,
    ) -> None:
        self._objective = objective
        self._engine = engine
        self._form = form
        self._splits = training, validation
        computes = not (form.validates and form.accuracy) or objective in MEASURES
        self._whole = around(model, form, training.images.shape[1:]) if computes else None

    def train(self, images: NDArray[np.uint8], labels: NDArray[Any]) -> dict[str, float]:
        logs = self._engine.train(images, labels)
        if self._form.accuracy:
            return {"loss": logs["loss"], "accuracy": logs[self._form.accuracy]}
        return {"loss": logs["loss"], "accuracy": self._score(0, MEASURED_IMAGES)["accuracy"]}

    def validate(self) -> dict[str, float]:
        if not self._form.validates or self._objective in MEASURES:
            return self._score(1, None)
        logs = self._engine.validate()
        return {"loss": logs["loss"], "accuracy": logs[self._form.accuracy]}

    def _score(self, part: int, count: int | None) -> dict[str, float]:
        split = self._splits[part]
        return score(self._whole, split.images[:count], split.labels[:count], self._objective)


def _epoch_runner(
    engine: _Measured, training: Split, plan: TrainingPlan, *, labels: NDArray[Any]
) -> Callable[[int], EpochMetrics]:
    """A function that trains one epoch, counted from 1, and measures it."""
    import keras

    def run(epoch: int) -> EpochMetrics:
        began = time.perf_counter()
        sequence = np.random.SeedSequence([plan.seed, epoch])
        keras.utils.set_random_seed(int(sequence.generate_state(1)[0] >> 1))
        random = np.random.default_rng(sequence)
        order = _order(training.labels, random, balanced=plan.balanced)
        images = shift_images(training.images[order], plan.shift, random)
        images = flip_images(images, random) if plan.flip else images
        values = engine.train(images, labels[order])
        values |= {f"val_{name}": value for name, value in engine.validate().items()}
        measured = as_measured(epoch, values, time.perf_counter() - began, plan.objective)
        if not measured.possible:
            raise Diverged(epoch)
        return measured

    return run


def _order(
    labels: NDArray[np.uint8], random: np.random.Generator, *, balanced: bool
) -> NDArray[np.intp]:
    """Return the rows that an epoch trains on, in their order."""
    if not balanced:
        return random.permutation(len(labels))
    weights = 1.0 / np.bincount(labels)[labels]
    return random.choice(len(labels), size=len(labels), p=weights / weights.sum())


def shift_images(
    images: NDArray[np.uint8], pixels: int, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Move each of ``images (N, H, W, ...)`` by up to ``pixels`` each way, black coming in."""
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


def flip_images(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror about half of ``images (N, H, W, ...)`` left to right; return a copy."""
    flipped = random.random(len(images)) < 0.5
    mirrored = images.copy()
    mirrored[flipped] = images[flipped, :, ::-1]
    return mirrored


def _overlap(move: int) -> tuple[slice, slice]:
    """Return the slices of one axis that stay in sight when moved by ``move``: before, and after."""
    end = -abs(move) or None
    return (slice(0, end), slice(move, None)) if move >= 0 else (slice(-move, None), slice(0, end))


def _set_one_cycle(model: keras.Model, steps: int) -> None:
    from mnist_lab.training.schedule import OneCycle

    model.optimizer.learning_rate = OneCycle(float(model.optimizer.learning_rate), steps)


def _restore(
    model: keras.Model, engine: Engine, checkpoints: Checkpoints | None
) -> tuple[list[EpochMetrics], list[Any]]:
    """Put the newest checkpoint into ``model``, and its precision into ``engine``; return its epochs
    and the weights of the best."""
    found = read_checkpoint_into(model, checkpoints)
    if found is None:
        return [], []
    epochs, best, engine.precision = found
    return epochs, best


def _adapt_normalization(model: keras.Model, training: Split, form: ModelForm) -> None:
    """Adapt the ``Normalization`` layers that are not adapted yet to their inputs."""
    import keras

    for layer in model.layers if type(model).__module__.startswith("keras.") else ():
        if not isinstance(layer, keras.layers.Normalization) or _is_adapted(layer):
            continue
        given = form.array(training.images)
        if layer is not _first_layer(model):
            before = keras.Model(model.inputs, layer.input)
            given = before.predict(given, batch_size=VALIDATION_BATCH, verbose=0)
        layer.adapt(given)


def _is_adapted(layer: Any) -> bool:
    import keras

    if layer.input_mean is not None:
        return True
    mean, variance = (keras.ops.convert_to_numpy(each) for each in (layer.mean, layer.variance))
    return bool(np.any(mean != 0) or np.any(variance != 1))


def _first_layer(model: keras.Model) -> Any:
    import keras

    layers = (each for each in model.layers if not isinstance(each, keras.layers.InputLayer))
    return next(layers)
