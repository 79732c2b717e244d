"""Arrays of images and labels brought to one form, or refused with the sentence that helps.

images  any layout in ``as_pixels``  ->  ``(N, H, W)`` or ``(N, H, W, 3) uint8``
labels  numbers, one-hot or names    ->  ``(N,) uint8`` and the names of the classes, sorted
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data.dataset import MOST_CLASSES

Part = TypeVar("Part", bound=str)  # the name of a part

# Half a grey value of floats in [0, 1] that were stored as float16.
ROUNDING = 0.13


class Unusable(Exception):
    """Arrays that are no labelled images: ``found`` and ``expected`` finish the reader's sentence."""

    def __init__(self, found: str, expected: str, next_step: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected
        self.next_step = next_step


def as_pixels(images: NDArray[Any], name: str = "images") -> NDArray[np.uint8]:
    """Convert to ``(N, H, W)`` or ``(N, H, W, 3) uint8``.

    Taken: ``(N, H, W)``, ``(N, H, W, 1 or 3)``, ``(N, 1 or 3, H, W)``, and square rows ``(N, H*W)``.
    Values: see ``_as_bytes``.

    Raises:
        Unusable: another shape, or values that are no pixels.
    """
    return np.ascontiguousarray(_as_bytes(_arranged(images, name), name))


def _arranged(images: NDArray[Any], name: str) -> NDArray[Any]:
    """Return a view ``(N, H, W)`` or ``(N, H, W, 3)``."""
    shape = images.shape
    if images.ndim == 4:
        last, first = shape[3], shape[1]
        if last in (1, 3):
            return images[..., 0] if last == 1 else images
        if first in (1, 3):
            return images[:, 0] if first == 1 else np.moveaxis(images, 1, 3)
        if last == 4:
            raise Unusable(
                f"{name} of shape {shape}, with transparency", "(N, H, W, 3)",
                "Leave the fourth channel out: images[..., :3].",
            )  # fmt: skip
    side = math.isqrt(shape[1]) if images.ndim == 2 else 0
    if images.ndim == 2 and side * side == shape[1]:
        return images.reshape(-1, side, side)
    if images.ndim == 3:
        return images
    raise Unusable(f"{name} of shape {shape}", "(N, H, W) or (N, H, W, 3)")


def _as_bytes(images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Convert values to uint8: whole numbers in [0, 255], ``k / 255`` in [0, 1], or True and False."""
    if images.dtype == bool:
        return images.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(images.dtype, np.number) or np.iscomplexobj(images):
        raise Unusable(f"{name} of dtype {images.dtype}", "uint8 pixels in [0, 255]")
    if images.size == 0:
        raise Unusable(f"no {name}", "at least one image")
    low, high = images.min(), images.max()
    if not np.isfinite([low, high]).all():
        raise Unusable(f"{name} with NaN or infinity", "pixels in [0, 255]")
    if low < 0 or high > 255:
        raise Unusable(
            f"{name} of {low:g} to {high:g}", "pixels in [0, 255]",
            "Scale them: (255 * (x - x.min()) / (x.max() - x.min())).round().astype('uint8').",
        )  # fmt: skip
    if 0 < high <= 1:
        return _shares(images, name)
    if images.dtype == np.uint8:
        return images
    whole = np.rint(images)
    if not np.allclose(images, whole, atol=1e-3):
        raise Unusable(
            f"{name} of {low:g} to {high:g} with fractions", "whole numbers in [0, 255]",
            "Round them: x.round().astype('uint8').",
        )  # fmt: skip
    return np.asarray(whole, dtype=np.uint8)


def _shares(images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Bring ``k / 255`` back exactly; refuse bytes that hold 0 and 1 only, and other fractions."""
    if np.issubdtype(images.dtype, np.integer):
        raise Unusable(
            f"{name} of {images.dtype} that are 0 and 1 only", "pixels in [0, 255]",
            "If (x / 255).astype('uint8') has made them, store x. Black and white: 255 * x.",
        )  # fmt: skip
    scaled = images.astype(np.float64) * 255
    whole = np.rint(scaled)
    if np.abs(scaled - whole).max() > ROUNDING:
        raise Unusable(
            f"{name} of {images.min():g} to {images.max():g} that are no pixels divided by 255",
            "whole numbers in [0, 255], or those divided by 255",
            "Round them: (255 * x).round().astype('uint8').",
        )  # fmt: skip
    return np.asarray(whole, dtype=np.uint8)


def flat_labels(labels: NDArray[Any], name: str = "labels") -> NDArray[Any]:
    """Return ``(N,)`` whole numbers or strings, of ``(N,)``, ``(N, 1)`` or one-hot ``(N, K)`` labels.

    Raises:
        Unusable: several labels an image, measured values, or missing labels.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if (labels.ndim == 2 and np.issubdtype(labels.dtype, np.number)) or (
        labels.ndim == 2 and labels.dtype == bool
    ):
        ones = labels != 0
        if not (np.isin(labels, (0, 1)).all() and (ones.sum(axis=1) == 1).all()):
            raise Unusable(
                f"{name} of shape {labels.shape} with several classes an image (multi-label)",
                "one class an image",
            )
        return np.asarray(ones.argmax(axis=1))
    if labels.ndim != 1:
        raise Unusable(f"{name} of shape {labels.shape}", "one label an image, of shape (N,)")
    if labels.dtype == object or labels.dtype.kind in "SU":
        return np.array([_as_text(each, name) for each in labels])
    if labels.dtype == bool or np.issubdtype(labels.dtype, np.integer):
        return labels.astype(np.int64)
    if np.issubdtype(labels.dtype, np.floating):
        whole = np.isfinite(labels).all() and (labels == np.rint(labels)).all()
        if whole:
            return labels.astype(np.int64)
        raise Unusable(f"{name} that are measured values (regression)", "one class an image")
    raise Unusable(f"{name} of dtype {labels.dtype}", "whole numbers or names of classes")


def _as_text(value: Any, name: str) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is None or value != value:  # NaN of a table's empty cell  # noqa: PLR0124
        raise Unusable(f"{name} with empty values", "a label for each image")
    return str(value)


def number_classes(
    labels: Mapping[Part, NDArray[Any]], names: tuple[str, ...] | None = None
) -> tuple[dict[Part, NDArray[np.uint8]], tuple[str, ...]]:
    """Number the classes of all parts ``0..K-1`` in sorted order; return the labels and the names.

    ``names`` are those of labels ``0..len(names)-1``, where the file has them.

    Raises:
        Unusable: fewer than 2 classes, or more than ``MOST_CLASSES``.
    """
    kinds = np.unique(np.concatenate(list(labels.values())))
    count = len(kinds)
    if count < 2:
        raise Unusable(f"one class only ({kinds[0] if count else 'none'})", "at least 2 classes")
    total = sum(len(each) for each in labels.values())
    if count > MOST_CLASSES:
        raise Unusable(
            f"{count:,} different labels of {total:,} images (measured values, or names of files?)",
            f"2 to {MOST_CLASSES} classes",
        )
    numbered = {
        part: np.searchsorted(kinds, each).astype(np.uint8) for part, each in labels.items()
    }
    known = (
        names is not None and kinds.dtype.kind == "i" and 0 <= kinds[0] <= kinds[-1] < len(names)
    )
    said = tuple(names[each] if known and names else str(each) for each in kinds)
    return numbered, said
