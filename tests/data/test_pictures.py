"""Pictures decoded as their files say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mnist_lab.data import UnreadablePicture, decode, fit, load_dataset


@pytest.fixture(scope="module")
def seven():
    return load_dataset().train.images[0]


def stored(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def turned(seven):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    return stored(Image.fromarray(np.rot90(seven)), exif=exif)


def over_nothing(seven):
    colours = np.dstack([np.zeros((28, 28, 3), np.uint8), 255 - seven])
    return stored(Image.fromarray(colours))


FILES = {
    "turned by EXIF": turned,
    "16 bits": lambda seven: stored(Image.fromarray(seven.astype(np.uint16) * 257)),
    "32 bits": lambda seven: stored(Image.fromarray(seven.astype(np.int32) * 257), "TIFF"),
    "floats": lambda seven: stored(Image.fromarray(seven.astype(np.float32) / 255), "TIFF"),
    "a palette": lambda seven: stored(Image.fromarray(seven).convert("P")),
    "an animation": lambda seven: stored(
        Image.fromarray(seven), "GIF", save_all=True, append_images=[Image.new("L", (28, 28))]
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_picture_is_decoded_as_its_file_says(seven, kind):
    found = np.asarray(decode(FILES[kind](seven)).convert("L"))
    assert np.abs(found.astype(int) - seven).max() <= 1


def test_transparent_pixels_are_white(seven):
    found = np.asarray(decode(over_nothing(seven)).convert("L"))
    assert np.abs(found.astype(int) - seven).max() <= 1  # black where it is opaque


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n and no more"])
def test_what_is_no_picture_is_said(content):
    with pytest.raises(UnreadablePicture):
        decode(content)


def test_values_that_are_no_grey_are_refused():
    negative = stored(Image.fromarray(np.full((4, 4), -5, np.int32)), "TIFF")
    with pytest.raises(UnreadablePicture, match="grey values of -5 to -5"):
        decode(negative)


def test_a_picture_keeps_its_proportions_and_is_padded_with_its_border():
    wide = Image.new("RGB", (60, 20), (10, 200, 30))
    found = np.asarray(fit(wide, (32, 32)))
    assert found.shape == (32, 32, 3)
    assert (found == (10, 200, 30)).all()


def test_a_larger_picture_is_averaged_over_areas():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[::2] = 200
    assert (np.asarray(fit(Image.fromarray(stripes), (32, 32))) == 100).all()
