"""``python -m mnist_lab.data.download NAME FILE``: fetch a data set through ``keras.datasets``.

Run by ``load.py`` as a process of its own; the one place in this room that imports Keras.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np


def download(name: str, target: Path) -> None:
    """Write ``target`` (.npz with Keras's four keys) whole or not at all."""
    module = importlib.import_module(f"keras.datasets.{name}")
    (x_train, y_train), (x_test, y_test) = module.load_data()
    partial = target.with_suffix(".part.npz")
    np.savez_compressed(partial, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    partial.replace(target)


if __name__ == "__main__":
    download(sys.argv[1], Path(sys.argv[2]))
