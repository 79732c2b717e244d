"""An epoch as one TensorFlow graph: Keras's own ``train_step`` in a loop that Python does not see.

Beside ``runtime.py`` the only file that imports TensorFlow. Measured on two cores, one thread a worker,
the notebook's models (``experiments/LOG.md``): FNN 2.7 to 0.9 s an epoch, CNN 21 to 7 s. Where it goes:

- No ``tf.data``: the iterator that ``fit`` makes for each epoch has a tuning thread that sleeps twice
  as long each time, and the iterator's end waits for it to wake: half of an epoch.
- The gradient of a convolution's kernel over one channel is a matrix product of patches: oneDNN's own
  takes 10 ms of a CNN's step of 23, this 2 ms.
- Dropout draws 16 bits a number instead of 32, and multiplies instead of selecting.
- Adam in one kernel instead of twelve passes over each variable.

Each is the same function as what it replaces, up to rounding; a test compares them with Keras's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from mnist_lab.training.engine import VALIDATION_BATCH, Images, OneHot


class GraphEngine:
    """Calls ``model.train_step`` and ``model.test_step`` as ``fit`` does, batch by batch."""

    def __init__(
        self, model: keras.Model, validation: tuple[Images, OneHot], *, batch_size: int
    ) -> None:
        self._model = model
        self._validation = tuple(tf.constant(each) for each in validation)
        quicken(model)
        self._train = _loop(model, model.train_step, batch_size)
        self._validate = _loop(model, model.test_step, VALIDATION_BATCH)

    def train(self, images: Images, labels: OneHot) -> Mapping[str, float]:
        return self._run(self._train, tf.constant(images), tf.constant(labels))

    def validate(self) -> Mapping[str, float]:
        return self._run(self._validate, *self._validation)

    def _run(self, epoch: Any, images: Any, labels: Any) -> Mapping[str, float]:
        self._model.reset_metrics()
        epoch(images, labels)
        return {name: float(value) for name, value in self._model.get_metrics_result().items()}


def _loop(model: keras.Model, step: Any, batch_size: int) -> Any:
    if model.jit_compile:  # Keras says so on a GPU only
        step = tf.function(step, jit_compile=True, reduce_retracing=True)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def epoch(images: Any, labels: Any) -> None:
        batches = math.ceil(images.shape[0] / batch_size)

        def body(batch: Any) -> tuple[Any]:
            part = slice(batch * batch_size, (batch + 1) * batch_size)
            step((images[part], labels[part]))
            return (batch + 1,)

        tf.while_loop(lambda batch: batch < batches, body, (0,), parallel_iterations=1)

    return epoch


def quicken(model: keras.Model) -> None:
    """Give layers and optimizer of ``model`` faster kernels; its configuration stays Keras's own."""
    on_cpu = not tf.config.list_logical_devices("GPU")
    for layer in model.layers:
        if type(layer) is keras.layers.Dropout and layer.noise_shape is None and layer.rate < 1:
            layer.call = _Dropout(layer)
        elif on_cpu and type(layer) is keras.layers.Conv2D and _has_one_channel(layer):
            layer.convolution_op = _Convolution(layer)
    adams = (keras.optimizers.Adam, keras.optimizers.AdamW)
    if type(model.optimizer) in adams and not model.optimizer.amsgrad:
        model.optimizer.update_step = _AdamStep(model.optimizer)


def _has_one_channel(layer: keras.layers.Conv2D) -> bool:
    plain = layer.groups == 1 and layer.dilation_rate == (1, 1) and layer.strides == (1, 1)
    return bool(plain and layer.data_format == "channels_last" and layer.kernel.shape[2] == 1)


class _Convolution:
    """``Conv2D.convolution_op`` of one channel, whose kernel gradient is ``patches @ gradient``."""

    def __init__(self, layer: keras.layers.Conv2D) -> None:
        self._padding = layer.padding.upper()

    def __call__(self, inputs: Any, kernel: Any) -> Any:
        return self._convolve(inputs, tf.convert_to_tensor(kernel))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def _convolve(self, inputs: Any, kernel: Any) -> Any:
        outputs = tf.nn.conv2d(inputs, kernel, strides=1, padding=self._padding)

        def gradient(upstream: Any) -> tuple[Any, Any]:
            patches = self._patches(inputs, kernel.shape, tf.shape(outputs))
            of_kernel = tf.matmul(patches, tf.reshape(upstream, (-1, kernel.shape[3])))
            of_inputs = tf.nn.conv2d_transpose(
                upstream, kernel, tf.shape(inputs), strides=1, padding=self._padding
            )
            return of_inputs, tf.reshape(of_kernel, kernel.shape)

        return outputs, gradient

    def _patches(self, inputs: Any, kernel: tuple[int, ...], outputs: Any) -> Any:
        """For each of the kernel's ``(height, width)`` places the pixels that it meets, in a row."""
        height, width, rows, columns = kernel[0], kernel[1], outputs[1], outputs[2]
        if self._padding == "SAME":
            inputs = tf.pad(inputs, [(0, 0), *(_margin(kernel[axis]) for axis in (0, 1)), (0, 0)])
        shifted = [
            inputs[:, top : top + rows, left : left + columns, 0]
            for top in range(height)
            for left in range(width)
        ]
        return tf.reshape(tf.stack(shifted), (height * width, -1))


def _margin(size: int) -> tuple[int, int]:
    """How TensorFlow pads for a kernel of ``size``: the odd pixel after."""
    return (size - 1) // 2, size // 2


class _Dropout:
    """``Dropout.call`` with probabilities in steps of 2^-16."""

    def __init__(self, layer: keras.layers.Dropout) -> None:
        self._layer = layer

    def __call__(self, inputs: Any, training: bool = False) -> Any:
        rate = self._layer.rate
        if not training or not rate:
            return inputs
        count = tf.size(inputs)
        seed = tf.cast(self._layer.seed_generator.next(), tf.int32)
        words = tf.random.stateless_uniform(
            [(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.uint32
        )
        draws = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:count]
        keep = tf.cast(draws >= tf.constant(round(rate * 2**16), tf.uint16), inputs.dtype)
        return inputs * tf.reshape(keep / (1 - rate), tf.shape(inputs))


class _AdamStep:
    """``Adam.update_step`` in one kernel, with the same variables."""

    def __init__(self, optimizer: keras.optimizers.Adam) -> None:
        self._optimizer = optimizer

    def __call__(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        optimizer, kind = self._optimizer, variable.dtype
        index = optimizer._get_variable_index(variable)
        step = tf.cast(tf.convert_to_tensor(optimizer.iterations) + 1, kind)
        beta_1, beta_2 = tf.constant(optimizer.beta_1, kind), tf.constant(optimizer.beta_2, kind)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=optimizer._momentums[index].value.handle,
            v=optimizer._velocities[index].value.handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(learning_rate, kind),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(optimizer.epsilon, kind),
            grad=tf.cast(gradient, kind),
            use_locking=False,
        )
