"""Pictures of people's own brought to the form of a model's training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data import (
    DIGIT,
    ImageForm,
    UnreadablePicture,
    Unusable,
    as_pixels,
    decode,
    fit,
    read_images,
)
from mnist_lab.errors import DataError
from mnist_lab.models.digits import NoDigit, centre_digit, find_ink

ARRAY_SUFFIXES = (".npy",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One image to be classified: ``pixels`` of the model's shape, uint8, and where it came from."""

    source: str
    pixels: NDArray[np.uint8]


def read_pictures(
    paths: Sequence[Path], images: ImageForm, *, as_is: bool = False
) -> Iterator[Picture]:
    """Read pictures (PNG, JPEG, …), and the images of ``.npy`` and IDX files.

    The images of arrays have the model's shape already, and are taken as they are. Pictures may have
    any size and colour: see ``prepare``.

    Raises:
        DataError: a file is no picture, or there is nothing or too much to be seen in it.
    """
    for path in paths:
        if path.suffix in ARRAY_SUFFIXES or "ubyte" in path.name:
            for index, pixels in enumerate(read_images(path, images.shape)):
                yield Picture(source=f"{path}[{index}]", pixels=pixels)
        else:
            yield Picture(source=str(path), pixels=prepare(path, images, as_is=as_is))


def prepare_images(
    given: NDArray[Any] | Sequence[str | Path], images: ImageForm
) -> NDArray[np.uint8]:
    """Return pixels ``(N, *shape) uint8`` of an array, or of N picture files.

    Floats that are pixels divided by 255 are brought back exactly.

    Raises:
        DataError: an array is of another shape, or of no pixels; a file is no picture.
    """
    if not isinstance(given, np.ndarray) and all(isinstance(each, str | Path) for each in given):
        return np.stack([each.pixels for each in read_pictures(list(map(Path, given)), images)])
    array = np.asarray(given)
    advice = "Give pixels in [0, 255], or PNG or JPEG files."
    if array.shape[1:] != images.shape or array.dtype.kind not in "iufb":
        found = f"an array of {array.dtype} {array.shape}"
        raise DataError(f"Found {found}, expected {('N', *images.shape)}.", next_step=advice)
    try:
        return as_pixels(array, "inputs")
    except Unusable as error:
        raise DataError(
            f"Found {error.found}, expected {error.expected}.", next_step=advice
        ) from error


def prepare(
    picture: Path | bytes, images: ImageForm, *, as_is: bool = False, name: str = ""
) -> NDArray[np.uint8]:
    """Bring one picture to the form of a model's images.

    For models of MNIST's digits the digit is cut out, dark on light or light on dark, and centred as
    MNIST does it, unless ``as_is``. Otherwise the picture is made grey if the images are, and resized
    in proportion, as the data set's own pictures were.

    Raises:
        DataError: it is no picture, or shows no digit or several.
    """
    called = name or str(picture)
    try:
        decoded = decode(picture)
    except UnreadablePicture as error:
        raise DataError(
            f"{called} is no picture that can be read ({error}).",
            next_step="Give PNG or JPEG files, an .npy of the model's images, or IDX files.",
        ) from error
    if images.preparation == DIGIT and not as_is:
        try:
            return centre_digit(
                find_ink(np.asarray(decoded.convert("RGB"), dtype=np.float64) / 255)
            )
        except NoDigit as error:
            raise DataError(
                f"{called} {error}.",
                next_step="Give a picture of one digit on a plain ground, or --as-is to resize it.",
            ) from error
    fitted = fit(decoded, (images.shape[0], images.shape[1]))
    return np.asarray(fitted.convert("RGB" if images.is_colour else "L"))
