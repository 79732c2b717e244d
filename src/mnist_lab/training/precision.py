"""The precision of a training step's products: float32, or bfloat16 where measured to help.

Weights, gradients' sums, the optimizer, validation and everything that is saved are float32 in both.
Measured on a CPU with AMX, one thread (``experiments/LOG.md``): a step of a CNN is 1.3 to 2.2 times as
fast, its validation accuracy over five seeds the same; an epoch of dense layers alone is 1.2 times as
fast, and over fifteen seeds 0.02 points less accurate, with a standard error of 0.02. Hence ``auto``.
A training that goes on from a checkpoint goes on in the precision that it had.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lab.errors import UnknownNameError

if TYPE_CHECKING:
    import keras

AUTO, FLOAT32, BFLOAT16 = PRECISIONS = ("auto", "float32", "bfloat16")
# The wanted precision, set by ``runtime.configure`` or by whoever started the process.
VARIABLE = "MNIST_LAB_PRECISION"


def known_precision(name: str) -> str:
    """Return ``name``; raise ``UnknownNameError`` if there is no such precision."""
    if name not in PRECISIONS:
        raise UnknownNameError("precision", name, PRECISIONS)
    return name


def choose_precision(model: keras.Model) -> str:
    """Choose ``float32`` or ``bfloat16`` for training ``model`` in this process.

    Whatever was asked for, it is float32 on a GPU, on other backends than TensorFlow, and for models
    that run eagerly: there is no pass that would change their graphs.
    """
    import keras

    on_cpu = os.environ.get("CUDA_VISIBLE_DEVICES", "-1") == "-1"
    if keras.config.backend() != "tensorflow" or model.run_eagerly or not on_cpu:
        return FLOAT32
    wanted = os.environ.get(VARIABLE, AUTO)
    if wanted != AUTO:
        return wanted
    convolves = any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    return BFLOAT16 if convolves and has_amx() else FLOAT32


@cache
def has_amx(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this CPU multiplies matrices of bfloat16 in hardware of its own (Intel's AMX)."""
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text().split()
