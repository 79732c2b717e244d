"""A training's state as a checkpoint, and back into a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_lab.training.checkpoints import Checkpoint, Checkpoints
from mnist_lab.training.epochs import EpochMetrics, is_better
from mnist_lab.training.precision import FLOAT32

if TYPE_CHECKING:
    import keras

Arrays = list[np.ndarray[Any, Any]]


def take_checkpoint(
    model: keras.Model, epochs: list[EpochMetrics], best_weights: Arrays, precision: str
) -> Checkpoint:
    """Take weights, seed generators, optimizer and best weights after the last of ``epochs``."""
    import keras

    arrays = {name: keras.ops.convert_to_numpy(each) for name, each in _variables(model).items()}
    if not is_better(epochs[-1], epochs[:-1]):  # else they are the model's own
        arrays |= {f"best/{index}": weights for index, weights in enumerate(best_weights)}
    state = {"epochs": [asdict(each) for each in epochs], "precision": precision}
    return Checkpoint(epoch=len(epochs), arrays=arrays, state=state)


def read_checkpoint_into(
    model: keras.Model, checkpoints: Checkpoints | None
) -> tuple[list[EpochMetrics], Arrays, str] | None:
    """Put the newest checkpoint into ``model``.

    Return its epochs, the weights of the best, and the precision of its steps; None without one that
    fits the model.
    """
    if getattr(model, "optimizer", None) is not None:  # it has no variables before the first step
        model.optimizer.build(model.trainable_variables)
    found = checkpoints.load() if checkpoints is not None else None
    # ``.keras`` would not bring back the seed generators; these are among the variables.
    named = _variables(model)
    if found is None or not _fits(found, named):
        return None
    for name, variable in named.items():
        variable.assign(found.arrays[name])
    best = [found.arrays[name] for name in found.arrays if name.startswith("best/")]
    epochs = [EpochMetrics(**each) for each in found.state["epochs"]]
    # Older ones had no other precision.
    return epochs, best or model.get_weights(), found.state.get("precision", FLOAT32)


def _variables(model: keras.Model) -> dict[str, Any]:
    optimizer = getattr(model, "optimizer", None)
    parts = {"model": model.variables, "optimizer": optimizer.variables if optimizer else []}
    return {
        f"{part}/{i}": each for part, variables in parts.items() for i, each in enumerate(variables)
    }


def _fits(checkpoint: Checkpoint, variables: dict[str, Any]) -> bool:
    """Whether every variable is there in its shape; another Keras may have others."""
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    arrays = checkpoint.arrays.items()
    return shapes == {name: a.shape for name, a in arrays if not name.startswith("best/")}
