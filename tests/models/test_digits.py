"""Digits found in drawings and photographs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from mnist_lab.data import load_dataset
from mnist_lab.models.digits import NoDigit, centre_digit, find_ink


def four(width, *, ground=255, ink=0, size=500):
    """A 4 drawn in lines of ``width`` pixels."""
    picture = Image.new("RGB", (size, size), (ground,) * 3)
    draw = ImageDraw.Draw(picture)
    for line in ([(180, 120), (140, 260), (330, 260)], [(280, 150), (270, 380)]):
        draw.line(line, (ink,) * 3, width=width, joint="curve")
    return np.asarray(picture, dtype=np.float64) / 255


def stroke(pixels):
    """The width of strokes, by the mean distance to their edges."""
    mask = pixels > 127
    return 4 * ndimage.distance_transform_edt(mask)[mask].mean()


def prepared(colours):
    return centre_digit(find_ink(colours))


def test_a_thin_digit_is_thickened():
    mnist = load_dataset().train.images[:500]
    usual = np.quantile([stroke(each) for each in mnist], [0.02, 0.98])
    for width in (4, 25):
        assert usual[0] <= stroke(prepared(four(width))) <= usual[1]


def test_thin_and_thick_are_the_same_digit():
    thin, thick = (prepared(four(width)).astype(float).ravel() for width in (4, 25))
    assert np.corrcoef(thin, thick)[0, 1] > 0.8


def test_an_uneven_ground_is_no_ink():
    shade = np.linspace(0.45, 1, 500)[:, None, None]
    plain, shaded = prepared(four(25)), prepared(four(25) * shade)
    assert np.corrcoef(plain.ravel(), shaded.ravel())[0, 1] > 0.9


def test_light_on_dark_is_dark_on_light():
    dark = prepared(four(25, ground=20, ink=240))
    assert np.abs(dark.astype(int) - prepared(four(25))).max() <= 8


def test_two_digits_are_refused():
    two = np.concatenate([four(25), four(25)], axis=1)
    with pytest.raises(NoDigit, match="shows 2 digits"):
        prepared(two)


def test_a_digit_of_two_strokes_that_lie_close_is_one():
    colours = four(25)
    colours[255:268, 140:275] = 1.0  # the bar is cut off
    assert prepared(colours).any()


def test_dirt_beside_a_digit_is_left_out():
    colours = four(25)
    colours[440:450, 440:450] = 0
    assert np.array_equal(prepared(colours), prepared(four(25)))


def test_one_colour_all_over_shows_nothing():
    with pytest.raises(NoDigit, match="one colour all over"):
        find_ink(np.full((40, 40, 3), 0.5))


def test_mnists_own_images_are_hardly_changed():
    alike = []
    for pixels in load_dataset().train.images[:200]:
        colours = np.repeat(pixels[..., None] / 255.0, 3, axis=2)
        again = prepared(colours).astype(float)
        alike.append(np.corrcoef(pixels.ravel(), again.ravel())[0, 1])
    assert np.mean(alike) > 0.95
