"""The test images, sealed: only ``promotion/`` may import this module, and counts each opening.

A sweep that could see the test images would, sooner or later, choose by them. The layering test
checks that no other room imports this file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mnist_lab.data.dataset import Split
from mnist_lab.data.load import load_all
from mnist_lab.data.named import BUNDLED


@dataclass(frozen=True, kw_only=True, eq=False)
class SealedSplit:
    """A test split of which only ``digest`` and number of ``images`` are known until ``open``."""

    digest: str
    images: int
    _split: Split = field(repr=False)

    def open(self) -> Split:
        """Hand out the images and labels; whoever calls this has counted it."""
        return self._split


def find_test_split(
    name_or_path: str = BUNDLED,
    *,
    image_size: int | None = None,
    data_folder: Path | None = None,
) -> SealedSplit:
    """Find the test split, ``(10000, 28, 28) uint8`` for MNIST, and leave it sealed.

    Raises:
        DataError: as ``load_dataset``.
    """
    # Copies were counted when the data were first loaded.
    split = load_all(
        name_or_path, image_size=image_size, most_duplicates=1.0, data_folder=data_folder
    ).test
    return SealedSplit(digest=split.digest, images=len(split), _split=split)
