"""Pictures converted to MNIST's form: 28x28 grey pixels, a light digit on black."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_lab.data import IMAGE_SHAPE, read_images
from mnist_lab.errors import DataError

# MNIST's digits: scaled to fit 20x20 pixels, then moved so that their centre of mass is the centre of
# the 28x28 image (LeCun, Cortes and Burges, the description of the data set).
DIGIT_SIZE = 20
# Pixels that differ from the background by less than this share of the most are paper, not ink.
FAINTEST_INK = 0.1
LARGEST_PICTURE = 50_000_000  # pixels, 200 MB once unpacked
ENOUGH_PIXELS = 1000  # along a side, to make 28 of them


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One image to be classified: ``pixels (28, 28) uint8``, and where it came from."""

    source: str
    pixels: NDArray[np.uint8]


def read_pictures(paths: Sequence[Path], *, as_is: bool = False) -> Iterator[Picture]:
    """Read pictures (PNG, JPEG, … one digit each), and the images of ``.npy`` and IDX files.

    Pictures may have any size, be in colour or grey, dark on light or light on dark; the digit is cut
    out and centred as MNIST does it, unless ``as_is``: then they are made grey and scaled only. The
    images of arrays are 28x28 already, and are taken as they are.

    Raises:
        DataError: a file is no picture, or there is nothing to be seen in it.
    """
    for path in paths:
        if path.suffix == ".npy" or "ubyte" in path.name:
            for index, pixels in enumerate(read_images(path)):
                yield Picture(source=f"{path}[{index}]", pixels=pixels)
        else:
            colours = _read_colours(path)
            pixels = _scaled(colours) if as_is else centre_digit(_ink(path, colours))
            yield Picture(source=str(path), pixels=pixels)


def centre_digit(ink: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scale and centre ``ink (H, W)`` in [0, 1], 0 for none, as MNIST does: ``(28, 28) uint8``."""
    rows, columns = np.nonzero(ink.max(axis=1))[0], np.nonzero(ink.max(axis=0))[0]
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = DIGIT_SIZE / max(digit.shape)
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    if scale != 1:
        small = Image.fromarray(digit.astype(np.float32)).resize(
            (width, height), Image.Resampling.LANCZOS
        )
        digit = np.clip(np.asarray(small, dtype=np.float64), 0, 1)
        digit = digit / digit.max()
    centred = np.zeros(IMAGE_SHAPE)
    top, left = (
        int(np.clip(round(size / 2 - centre), 0, size - side))
        for size, centre, side in zip(IMAGE_SHAPE, _centre_of_mass(digit), digit.shape, strict=True)
    )
    centred[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return (255 * centred).round().astype(np.uint8)


def _centre_of_mass(digit: NDArray[np.float64]) -> tuple[float, float]:
    places = np.indices(digit.shape)
    row, column = ((place * digit).sum() / digit.sum() for place in places)
    return float(row), float(column)


def _ink(path: Path, colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each pixel of ``(H, W, 3)`` is from the background: the usual colour of the border."""
    border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    distance = np.abs(colours - np.median(border, axis=0)).max(axis=2)
    if distance.max() < 0.05:
        raise DataError(
            f"{path} shows nothing: it has one colour all over.",
            next_step="Give a picture of one digit on a plain ground.",
        )
    ink = distance / distance.max()
    return np.where(ink < FAINTEST_INK, 0.0, ink)


def _scaled(colours: NDArray[np.float64]) -> NDArray[np.uint8]:
    grey = Image.fromarray((255 * colours).round().astype(np.uint8)).convert("L")
    return np.asarray(grey.resize(IMAGE_SHAPE[::-1], Image.Resampling.LANCZOS))


def _read_colours(path: Path) -> NDArray[np.float64]:
    """Read ``(H, W, 3)`` in [0, 1], no side over ``ENOUGH_PIXELS``; transparent pixels become white."""
    picture = _open(path)
    picture.thumbnail((ENOUGH_PIXELS, ENOUGH_PIXELS))
    opaque = Image.new("RGBA", picture.size, "white")
    opaque.alpha_composite(picture)
    return np.asarray(opaque.convert("RGB"), dtype=np.float64) / 255


def _open(path: Path) -> Image.Image:
    """Red, green, blue and opacity, 8 bits each."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > LARGEST_PICTURE:
                raise _no_picture(path, f"{picture.width} x {picture.height} pixels")
            if picture.mode.startswith("I;16"):
                grey = (np.asarray(picture) // 257).astype(np.uint8)
                return Image.fromarray(grey).convert("RGBA")
            return picture.convert("RGBA")
    except FileNotFoundError:
        raise _no_picture(path, "no such file") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _no_picture(path, str(error)) from error


def _no_picture(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} is no picture that can be read ({reason}).",
        next_step="Give PNG or JPEG files, .npy arrays of (N, 28, 28) uint8, or IDX files of images.",
    )
