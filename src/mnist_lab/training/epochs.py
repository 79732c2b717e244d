"""The metrics of an epoch, and the history of a training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from mnist_lab.config import OBJECTIVES, VAL_ACCURACY
from mnist_lab.training.precision import FLOAT32

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One epoch, counted from 1; ``seconds`` is its wall time, ``timestamp`` Unix time at its end.

    ``objective`` is what the training is judged by, of ``OBJECTIVES``; ``measured`` is its value where
    it is none of ``METRICS``.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    timestamp: float
    objective: str = VAL_ACCURACY
    measured: float | None = None

    def metrics(self) -> dict[str, float]:
        found = {name: value for name, value in asdict(self).items() if name in METRICS}
        return found if self.measured is None else {**found, self.objective: self.measured}

    @property
    def value(self) -> float:
        """The value of the objective."""
        return float(self.metrics()[self.objective])

    @property
    def score(self) -> float:
        """The value with the sign by which more is better."""
        return self.value if OBJECTIVES[self.objective] else -self.value

    @property
    def possible(self) -> bool:
        """Whether all losses are finite and all accuracies in [0, 1]."""
        losses = self.loss, self.val_loss
        accuracies = self.accuracy, self.val_accuracy, self.measured or 0.0
        return all(map(math.isfinite, losses)) and all(0.0 <= each <= 1.0 for each in accuracies)


@dataclass(frozen=True, kw_only=True)
class History:
    """The epochs of a training; ``precision`` is that of its steps' products.

    ``keeps_last``: the model has the weights of the last epoch, not of the best.
    """

    epochs: tuple[EpochMetrics, ...]
    precision: str = FLOAT32
    keeps_last: bool = False

    @property
    def best(self) -> EpochMetrics:
        """The epoch with the best objective; of equals, the lowest validation loss.

        The last one where its weights are kept.
        """
        if self.keeps_last:
            return self.epochs[-1]
        return max(self.epochs, key=_merit)

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.epochs)

    def scalars(self) -> dict[str, float]:
        """Return the best epoch's figures and the training's length, as they are logged."""
        return {
            "best_val_accuracy": self.best.val_accuracy,
            "best_val_loss": self.best.val_loss,
            f"best_{self.best.objective}": self.best.value,
            "best_epoch": float(self.best.epoch),
            "fit_seconds": self.seconds,
        }


class Diverged(Exception):
    """The error of a training whose loss in ``epoch`` (counted from 1) is not finite."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(f"loss is not finite in epoch {epoch}")


# Called after each epoch with all so far, those before an interruption included; may raise to end it.
Report = Callable[[Sequence[EpochMetrics]], None]


def is_better(epoch: EpochMetrics, others: Sequence[EpochMetrics]) -> bool:
    """Return whether ``epoch`` is better than each of ``others``."""
    return not others or _merit(epoch) > max(map(_merit, others))


def as_measured(
    epoch: int, values: Mapping[str, float], seconds: float, objective: str = VAL_ACCURACY
) -> EpochMetrics:
    """Make the metrics of an epoch that ends now, of the values of ``METRICS`` and objective.

    Keras's float32 carries seven digits; more would be shown as 0.9922000169754028.
    """
    rounded = {
        name: float(f"{float(values[name]):.7g}") for name in dict.fromkeys((*METRICS, objective))
    }
    measured = None if objective in METRICS else rounded.pop(objective)
    return EpochMetrics(
        epoch=epoch,
        seconds=seconds,
        timestamp=time.time(),
        objective=objective,
        measured=measured,
        **rounded,
    )


def _merit(epoch: EpochMetrics) -> tuple[float, float]:
    return epoch.score, -epoch.val_loss
