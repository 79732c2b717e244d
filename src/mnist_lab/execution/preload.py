"""The imports of a template process: all that a worker imports, with nothing started.

TensorFlow may be imported before a fork as long as it has not been used: its threads and its devices
come with the first operation.
"""

import gc
import os
from contextlib import suppress

# Whoever reads the command's output does not wait for a template that is still importing.
_nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 1)
os.dup2(_nowhere, 2)
os.close(_nowhere)

with suppress(Exception):  # the worker that needs a missing package reports it
    if os.environ["KERAS_BACKEND"] == "tensorflow":  # a trainer without Keras needs nothing of it
        import mnist_lab.evaluation.drawing
        import mnist_lab.execution.trial
        import mnist_lab.training.graph  # noqa: F401
gc.freeze()  # or the first collection of each worker would copy every page
