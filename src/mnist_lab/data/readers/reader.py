"""``Reader``, and what one returns: images and labels as the files have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from mnist_lab.data.splits import PartName


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """``N`` encoded pictures: ``names`` for messages, ``read(i)`` the bytes of one file."""

    names: tuple[str, ...]
    read: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, kw_only=True, eq=False)
class RawPart:
    """Images, as an array that ``as_pixels`` takes or as pictures; labels ``(N, ...)``."""

    images: NDArray[Any] | Pictures
    labels: NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What a path holds: its parts, ``train`` always among them.

    ``class_names`` are those of the whole numbers ``0..K-1``, where the files name them.
    ``shuffled`` says that such files are usually shuffled: their last sixth validates, if it looks so.
    ``notes`` are facts for the sentence about the data, such as files that were left out.
    """

    parts: Mapping[PartName, RawPart]
    class_names: tuple[str, ...] | None = None
    shuffled: bool = False
    notes: tuple[str, ...] = ()


class Reader(Protocol):
    """One form of data set."""

    name: str  # in words, as "an .npz file"

    def matches(self, path: Path) -> bool:
        """Return whether ``path`` (it exists) is of this form, by its name or its first bytes."""
        ...

    def read(self, path: Path) -> Source:
        """Read ``path``.

        Raises:
            DataError, Unusable: it cannot be read, or lacks images or labels.
            OSError: it cannot be opened.
        """
        ...
