"""Pictures decoded into pixels: turned as their file says, over white, 8 bits a channel."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_lab.errors import DataError

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
LARGEST_PICTURE = 50_000_000  # pixels, 150 MB once unpacked


class UnreadablePicture(Exception):
    """A file that Pillow cannot decode, or that is too large; the text says why."""


def open_picture(content: bytes | Path) -> Image.Image:
    """Open a picture without decoding its pixels.

    Raises:
        UnreadablePicture: it is none, is damaged, or has more than ``LARGEST_PICTURE`` pixels.
    """
    try:
        with warnings.catch_warnings():  # the limit here is lower than Pillow's warning
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)
    except FileNotFoundError:
        raise UnreadablePicture("no such file") from None
    except UnidentifiedImageError:
        raise UnreadablePicture("of no known format") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(str(error)) from error
    if picture.width * picture.height > LARGEST_PICTURE:
        picture.close()
        raise UnreadablePicture(f"{picture.width} x {picture.height} pixels are too many")
    return picture


def decode(content: bytes | Path) -> Image.Image:
    """Decode a picture to mode ``L`` or ``RGB``: upright, transparent pixels white.

    The EXIF orientation is applied. Of an animation the first frame is taken. 16 and 32 bits and
    floats become 8: by 1/257 above 255, by 255 for floats in [0, 1].

    Raises:
        UnreadablePicture: as ``open_picture``, or values that fit no such rule.
    """
    with open_picture(content) as picture:
        try:
            upright = ImageOps.exif_transpose(picture)
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise UnreadablePicture(str(error)) from error
        if upright.mode.startswith(("I", "F")):
            return Image.fromarray(_to_bytes(np.asarray(upright)))
        if upright.mode in ("1", "L"):
            return upright.convert("L")
        if upright.mode in ("RGB", "YCbCr", "CMYK", "HSV", "LAB") and not _is_transparent(upright):
            return upright.convert("RGB")
        opaque = Image.new("RGBA", upright.size, "white")
        opaque.alpha_composite(upright.convert("RGBA"))
        return opaque.convert("RGB")


def is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Return whether ``(..., 3)`` pixels have three equal channels."""
    return bool((pixels[..., :1] == pixels[..., 1:]).all())


def fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize to ``size`` (height, width) in proportion, and pad with the usual colour of the border.

    A picture is made smaller by the mean over areas, larger by bicubic interpolation.
    """
    height, width = size
    if picture.size == (width, height):
        return picture
    scale = min(width / picture.width, height / picture.height)
    inner = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    resized = picture.resize(inner, method)
    if resized.size == (width, height):
        return resized
    padded = Image.new(picture.mode, (width, height), _border_colour(resized))
    padded.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def _border_colour(picture: Image.Image) -> int | tuple[int, ...]:
    pixels = np.asarray(picture)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    found = np.median(border, axis=0).astype(int)
    return int(found) if found.ndim == 0 else tuple(int(each) for each in found)


def _is_transparent(picture: Image.Image) -> bool:
    return "transparency" in picture.info


def _to_bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Convert 16 or 32 bits to 8 by the range of ``values (H, W)``."""
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if not (np.isfinite(numbers).all() and low >= 0 and high <= 65535):
        raise UnreadablePicture(f"grey values of {low:g} to {high:g}, expected 0 to 65535")
    is_share = np.issubdtype(values.dtype, np.floating) and high <= 1
    factor = 255.0 if is_share else (1 / 257 if high > 255 else 1.0)
    return np.asarray(np.rint(numbers * factor), dtype=np.uint8)


def unreadable(path: Path | str, reason: str) -> DataError:
    """Make the error for one file that is no picture."""
    return DataError(
        f"{path} is no picture that can be read ({reason}).",
        next_step="Give PNG, JPEG, BMP, GIF, TIFF or WebP files.",
    )
