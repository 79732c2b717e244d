"""The settings that a process needs before Keras is imported: device, threads, memory.

TensorFlow is imported only when it is Keras's backend.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mnist_lab.training.precision import AUTO, VARIABLE


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One worker's share of the machine.

    ``gpu`` is the device's index as CUDA counts it, or None for the CPU; ``gpu_memory_mb`` is a hard
    limit for workers that share a GPU, None lets the memory grow as it is needed. ``precision`` is one
    of those of ``precision.py``, None the environment's.
    """

    threads: int
    gpu: str | None = None
    gpu_memory_mb: int | None = None
    precision: str | None = None


def environment(runtime: Runtime) -> dict[str, str]:
    """Return the environment variables that limit this process to its share of the machine."""
    return {
        # Counted as nvidia-smi counts them; CUDA's own order is by speed.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "-1" if runtime.gpu is None else runtime.gpu,
        "OMP_NUM_THREADS": str(runtime.threads),
        VARIABLE: runtime.precision or os.environ.get(VARIABLE, AUTO),
        "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "tensorflow"),
        # JAX takes three quarters of a GPU at once, or, like TensorFlow here, what it needs.
        "XLA_PYTHON_CLIENT_PREALLOCATE": os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "false"),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        "MPLBACKEND": "Agg",
    }


def configure(runtime: Runtime) -> None:
    """Apply ``runtime`` to this process; call it once, before Keras is used.

    OpenMP and BLAS keep the number of threads that was set when they were loaded, one in a forked
    worker.
    """
    os.environ.update(environment(runtime))
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        _configure_tensorflow(runtime)


def _configure_tensorflow(runtime: Runtime) -> None:
    with _muted_stderr():
        import tensorflow as tf

    # Its advice on retracing: here a process may load many models, and use each once.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    tf.config.threading.set_intra_op_parallelism_threads(runtime.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    gpus = tf.config.list_physical_devices("GPU")
    if runtime.gpu is not None and not gpus:
        raise RuntimeError(
            f"GPU {runtime.gpu} was asked for, but this TensorFlow sees none: "
            "install 'mnist-lab[gpu]', or add --device cpu"
        )
    for gpu in gpus:
        if runtime.gpu_memory_mb is None:
            tf.config.experimental.set_memory_growth(gpu, enable=True)
        else:
            limit = tf.config.LogicalDeviceConfiguration(memory_limit=runtime.gpu_memory_mb)
            tf.config.set_logical_device_configuration(gpu, [limit])


@contextmanager
def _muted_stderr() -> Iterator[None]:
    """Drop messages of TensorFlow's C++ during its import; no setting silences it that early.

    A failing import still raises, with its reason.
    """
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
