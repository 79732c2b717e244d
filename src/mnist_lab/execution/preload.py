"""Importing this makes a process a template: all that a worker imports is here, and nothing has begun.

TensorFlow may be imported before a fork as long as it has not been used: its threads and its devices
come with the first operation.
"""

import gc
import os
import traceback

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # its threads would start with NumPy

from mnist_lab.training.runtime import Runtime, environment, import_keras

# Read while libraries are loaded; the workers' own values are set in each of them.
os.environ.update(environment(Runtime(threads=1)))
try:
    import mnist_lab.evaluation.drawing
    import mnist_lab.execution.trial

    if import_keras():
        import mnist_lab.training.graph  # noqa: F401
except Exception:  # said again, where it is heard, by the worker that needs what is missing
    traceback.print_exc()
gc.freeze()  # or the first collection of each worker would copy every page
