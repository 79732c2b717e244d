"""An epoch as one TensorFlow graph: Keras's own ``train_step`` in a loop that Python does not see.

Measured on two cores, one thread a worker,
the notebook's models (``experiments/LOG.md``): FNN 2.7 to 0.9 s an epoch, CNN 21 to 7 s. Where it goes:

- No ``tf.data``: the iterator that ``fit`` makes for each epoch has a tuning thread that sleeps twice
  as long each time, and the iterator's end waits for it to wake: half of an epoch.
- A convolution over one channel is a matrix product of patches, and so is its kernel's gradient:
  oneDNN's own gradient takes 10 ms of a CNN's step of 23, this 1 ms.
- Batch normalisation in one kernel instead of twenty passes over the map.
- Dropout draws 8 bits a number instead of 32, and multiplies instead of selecting.
- Adam in one kernel instead of twelve passes over each variable.
- Products in bfloat16, where ``precision.py`` says so, by TensorFlow's own pass over the graph.
- No XLA, which Keras takes on a GPU: on an H200 it saves 0.2 to 1.2 s an epoch and compiles for 4 to
  13 s, for every shape anew; most trials have ended before that is repaid.

Each but bfloat16 is the same function as what it replaces, up to rounding; a test compares them with
Keras's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from mnist_lab.training.engine import VALIDATION_BATCH, Images, Labels
from mnist_lab.training.form import PLAIN, ModelForm
from mnist_lab.training.kernels import use_fast_kernels
from mnist_lab.training.precision import BFLOAT16, choose_precision


class GraphEngine:
    """The engine that calls Keras's ``train_step`` and ``test_step`` as ``fit`` does, in one graph.

    Without XLA, whatever the model was compiled with: Keras keeps no record of whether its author asked
    for it, or Keras itself because it saw a GPU.
    """

    def __init__(
        self,
        model: keras.Model,
        validation: tuple[Images, Labels],
        *,
        batch_size: int,
        form: ModelForm = PLAIN,
    ) -> None:
        self._model = model
        self._validation = tuple(tf.constant(each) for each in validation)
        self.precision = choose_precision(model)
        model.jit_compile = False  # Keras's ``predict`` heeds it, too
        use_fast_kernels(model)
        images, labels = (part[:1] for part in self._validation)
        _build_metrics(model, form.feed(images), labels)
        self._train = _loop(model.train_step, batch_size, form)
        self._validate = _loop(model.test_step, VALIDATION_BATCH, form)

    def train(self, images: Images, labels: Labels) -> Mapping[str, float]:
        with _multiply_in(self.precision):
            return self._run(self._train, tf.constant(images), tf.constant(labels))

    def validate(self) -> Mapping[str, float]:
        return self._run(self._validate, *self._validation)

    def _run(self, epoch: Any, images: Any, labels: Any) -> Mapping[str, float]:
        self._model.reset_metrics()
        epoch(images, labels)
        return {name: float(value) for name, value in self._model.get_metrics_result().items()}


@contextmanager
def _multiply_in(precision: str) -> Iterator[None]:
    """Run the matrix products and convolutions of the block in ``precision``."""
    if precision != BFLOAT16:
        yield
        return
    option = "auto_mixed_precision_onednn_bfloat16"
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: False})


def _build_metrics(model: keras.Model, images: Any, labels: Any) -> None:
    """Create the metrics' variables, or the first trace would, and be thrown away for a second one."""
    model.compute_metrics(images, labels, model(images))


def _loop(step: Any, batch_size: int, form: ModelForm) -> Any:
    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def epoch(images: Any, labels: Any) -> None:
        batches = math.ceil(images.shape[0] / batch_size)

        def body(batch: Any) -> tuple[Any]:
            part = slice(batch * batch_size, (batch + 1) * batch_size)
            step((form.feed(images[part]), labels[part]))
            return (batch + 1,)

        tf.while_loop(lambda batch: batch < batches, body, (0,), parallel_iterations=1)

    return epoch
