"""The test images, sealed: only ``promotion/`` may import this module, and counts each opening.

A sweep that could see the test images would, sooner or later, choose by them. The layering test
checks that no other room imports this file.
"""

from __future__ import annotations

from pathlib import Path

from mnist_lab.data.dataset import Split, make_split
from mnist_lab.data.files import read_part
from mnist_lab.data.load import BUNDLED, locate
from mnist_lab.errors import DataError

BUNDLED_TEST_DIGEST = "26120b4578752d7d87c2cb6601f15f4b0efd4dd7947b156b4f7aa2d35f931d2f"


def open_test_split(name_or_path: str = BUNDLED, *, data_folder: Path | None = None) -> Split:
    """Load the test split, ``(10000, 28, 28) uint8`` for MNIST.

    Raises:
        DataError: as ``load_dataset``.
    """
    path = locate(name_or_path, data_folder=data_folder)
    test = make_split(*read_part(path, "test"))
    if name_or_path == BUNDLED and test.digest != BUNDLED_TEST_DIGEST:
        raise DataError(
            f"{path} is damaged: its test digest is {test.digest}, expected {BUNDLED_TEST_DIGEST}.",
            safe="Nothing was promoted.",
            next_step="Install mnist-lab again.",
        )
    return test
