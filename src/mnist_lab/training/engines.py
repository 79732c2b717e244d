"""``make_engine``: the fastest engine that trains a model as Keras itself would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnist_lab.training.form import PLAIN, ModelForm

if TYPE_CHECKING:
    import keras
from mnist_lab.training.engine import Engine, Images, Labels
from mnist_lab.training.fit import FitEngine


def make_engine(
    model: keras.Model,
    validation: tuple[Images, Labels],
    *,
    batch_size: int,
    form: ModelForm = PLAIN,
) -> Engine:
    """Return the fastest engine that trains ``model`` as Keras itself would.

    ``validation`` is images ``(N, H, W, ...) uint8`` and labels in ``form``. A model whose steps are
    its author's own is trained by Keras's ``fit``.
    """
    import keras

    if (
        keras.config.backend() == "tensorflow"
        and not model.run_eagerly
        and _takes_keras_steps(model)
    ):
        from mnist_lab.training.graph import GraphEngine

        return GraphEngine(model, validation, batch_size=batch_size, form=form)
    return FitEngine(model, validation, batch_size=batch_size, form=form)


def _takes_keras_steps(model: keras.Model) -> bool:
    """Whether no class of the author's stands between Keras and the model's layers."""
    return type(model).__module__.startswith("keras.")
