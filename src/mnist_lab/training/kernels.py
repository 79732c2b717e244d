"""Faster forms of four Keras layers and of Adam, for models whose results stay the same."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

# A step of 1/256 beside a higher rate would be more than 2 % of what is kept.
MOST_DROPPED = 0.75
# Patches take so many times the memory of the images: 7 x 7 of a thousand images are 150 MB.
MOST_PATCHED = 49


def use_fast_kernels(model: keras.Model) -> None:
    """Give layers and optimizer of ``model`` faster kernels; its configuration stays Keras's own."""
    on_cpu = not tf.config.list_logical_devices("GPU")
    for layer in model.layers:
        if type(layer) is keras.layers.Dropout and _is_moderate(layer):
            layer.call = _Dropout(layer)
        elif on_cpu and type(layer) is keras.layers.Conv2D and _has_one_channel(layer):
            layer.call = _Convolution(layer)
        elif on_cpu and type(layer) is keras.layers.BatchNormalization and _is_plain(layer):
            layer.call = _BatchNormalization(layer)
    adams = (keras.optimizers.Adam, keras.optimizers.AdamW)
    if type(model.optimizer) in adams and not model.optimizer.amsgrad:
        model.optimizer.update_step = _AdamStep(model.optimizer)


def _is_moderate(layer: keras.layers.Dropout) -> bool:
    return layer.noise_shape is None and float(layer.rate) <= MOST_DROPPED


def _has_one_channel(layer: keras.layers.Conv2D) -> bool:
    plain = layer.groups == 1 and layer.dilation_rate == (1, 1) and layer.strides == (1, 1)
    one = layer.data_format == "channels_last" and layer.kernel.shape[2] == 1
    small = math.prod(layer.kernel_size) <= MOST_PATCHED and None not in layer.input.shape[1:]
    return bool(plain and one and small and _is_float32(layer))


def _is_plain(layer: keras.layers.BatchNormalization) -> bool:
    last = layer.axis in (-1, len(layer.input.shape) - 1)
    return bool(last and not layer.renorm and not layer.synchronized and _is_float32(layer))


def _is_float32(layer: keras.layers.Layer) -> bool:
    return bool(layer.compute_dtype == layer.variable_dtype == "float32")


class _Convolution:
    """``Conv2D.call`` of one channel as a matrix product: each output is a patch times the kernel.

    A row of ones among the patches makes the bias a row of the kernel, and its gradient one of the
    kernel's.
    """

    def __init__(self, layer: keras.layers.Conv2D) -> None:
        self._layer = layer

    def __call__(self, inputs: Any) -> Any:
        layer = self._layer
        kernel = tf.convert_to_tensor(layer.kernel)
        bias = tf.convert_to_tensor(layer.bias) if layer.use_bias else tf.zeros(layer.filters)
        return layer.activation(self._convolve(inputs, kernel, bias))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def _convolve(self, inputs: Any, kernel: Any, bias: Any) -> Any:
        patches, shape = self._patches(inputs, kernel.shape)
        rows = tf.concat([tf.reshape(kernel, (-1, kernel.shape[3])), bias[None]], axis=0)
        outputs = tf.reshape(tf.matmul(patches, rows, transpose_a=True), shape)

        def gradient(upstream: Any) -> tuple[Any, Any, Any]:
            of_rows = tf.matmul(patches, tf.reshape(upstream, (-1, kernel.shape[3])))
            of_inputs = tf.nn.conv2d_transpose(
                upstream, kernel, tf.shape(inputs), strides=1, padding=self._padding
            )
            return of_inputs, tf.reshape(of_rows[:-1], kernel.shape), of_rows[-1]

        return outputs, gradient

    @property
    def _padding(self) -> str:
        return str(self._layer.padding).upper()

    def _patches(self, inputs: Any, kernel: tuple[int, ...]) -> tuple[Any, Any]:
        """For each of the kernel's places the pixels that it meets, in a row; then a row of ones.

        Also the outputs' shape ``(N, rows, columns, filters)``.
        """
        height, width = kernel[0], kernel[1]
        if self._padding == "SAME":
            inputs = tf.pad(inputs, [(0, 0), *(_margin(kernel[axis]) for axis in (0, 1)), (0, 0)])
        rows, columns = (inputs.shape[axis] - kernel[axis - 1] + 1 for axis in (1, 2))
        shifted = [
            inputs[:, top : top + rows, left : left + columns, 0]
            for top in range(height)
            for left in range(width)
        ]
        stacked = tf.stack([*shifted, tf.ones_like(shifted[0])])
        return tf.reshape(stacked, (height * width + 1, -1)), (-1, rows, columns, kernel[3])


def _margin(size: int) -> tuple[int, int]:
    """How TensorFlow pads for a kernel of ``size``: the odd pixel after."""
    return (size - 1) // 2, size // 2


class _BatchNormalization:
    """``BatchNormalization.call`` over the last axis in one kernel, with the same variables."""

    def __init__(self, layer: keras.layers.BatchNormalization) -> None:
        self._layer = layer
        self._slow = layer.call

    def __call__(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        layer, channels = self._layer, inputs.shape[-1]
        if not training or not layer.trainable or mask is not None:
            return self._slow(inputs, training=training, mask=mask)
        flat = inputs if len(inputs.shape) == 4 else tf.reshape(inputs, (-1, 1, 1, channels))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=flat,
            scale=tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones(channels),
            offset=tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros(channels),
            mean=tf.constant([], tf.float32),
            variance=tf.constant([], tf.float32),
            epsilon=layer.epsilon,
            is_training=True,
        )
        # The kernel divides by n - 1 for the moving variance, Keras by n.
        count = tf.cast(tf.size(flat) // channels, variance.dtype)
        for moving, now in (
            (layer.moving_mean, mean),
            (layer.moving_variance, variance * (count - 1) / count),
        ):
            moving.assign(moving * layer.momentum + now * (1 - layer.momentum))
        return tf.reshape(outputs, tf.shape(inputs))


class _Dropout:
    """``Dropout.call`` with 8 bits a number.

    In one call the probability is the step of 1/256 below the rate or the one above it, drawn so that
    the mean over calls is the rate.
    """

    def __init__(self, layer: keras.layers.Dropout) -> None:
        self._layer = layer

    def __call__(self, inputs: Any, training: bool = False) -> Any:
        rate = self._layer.rate
        if not training or not rate:
            return inputs
        count = tf.size(inputs)
        seed = tf.cast(self._layer.seed_generator.next(), tf.int32)
        # One word more than is needed: it decides between the two steps on either side of the rate.
        words = tf.random.stateless_uniform(
            [count // 4 + 2], seed, minval=None, maxval=None, dtype=tf.uint32
        )
        draws = tf.reshape(tf.bitcast(words[1:], tf.uint8), [-1])[:count]
        chance = tf.cast(words[0], tf.float32) / 2**32
        limit = tf.cast(tf.floor(rate * 256 + chance), tf.uint8)
        keep = tf.cast(draws >= limit, inputs.dtype)
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
