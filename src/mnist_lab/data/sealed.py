"""The test images, sealed: only ``promotion/`` may import this module, and counts each opening.

A sweep that could see the test images would, sooner or later, choose by them. The layering test
checks that no other room imports this file.
"""

from __future__ import annotations

from pathlib import Path

from mnist_lab.data.dataset import Split
from mnist_lab.data.load import load_all
from mnist_lab.data.named import BUNDLED


def open_test_split(
    name_or_path: str = BUNDLED,
    *,
    image_size: int | None = None,
    data_folder: Path | None = None,
) -> Split:
    """Load the test split, ``(10000, 28, 28) uint8`` for MNIST.

    Raises:
        DataError: as ``load_dataset``.
    """
    # Copies were counted when the data were first loaded.
    return load_all(
        name_or_path, image_size=image_size, most_duplicates=1.0, data_folder=data_folder
    ).test
