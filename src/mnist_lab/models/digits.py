"""A digit found in a photograph or a drawing, and prepared as MNIST's were."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SIDE = 28
# MNIST's digits: scaled to fit 20x20 pixels, then moved so that their centre of mass is the centre of
# the image (LeCun, Cortes and Burges, the description of the data set).
DIGIT_SIZE = 20
# In pixels of that size. Of MNIST's 5 % have thinner strokes than 2, the median is 2.7.
THINNEST, USUAL = 2.0, 2.7
LARGEST = 400  # pixels a side, to make 20 of them
FAINTEST = 0.05  # of full contrast: less is paper
# Beside the tallest, what is as tall as this share is a digit of its own, less is a dot or dirt.
ANOTHER_DIGIT = 0.5
GAP = 0.12  # of the tallest: parts of one digit lie closer
# Of MNIST's digits 99 % are at most 1.43 times as wide as high, and 5 times as high as wide.
WIDEST, HIGHEST = 1.45, 5.0
EDGE = 2  # pixels of the border
SHADED = (
    56  # pixels a side: in a smaller picture the border is too short to tell shade from strokes
)
Box = tuple[int, int, int, int]  # top, bottom, left, right


class NoDigit(Exception):
    """A picture without a digit, or with several; the text completes a sentence about it."""


def find_ink(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much ink each pixel of ``(H, W, 3)`` in [0, 1] has: ``(H', W')`` in [0, 1].

    Ink is what differs from the ground, which may be shaded, as in a photograph. No side of the
    result is over ``LARGEST``.

    Raises:
        NoDigit: nothing differs from the ground.
    """
    factor = -(-max(colours.shape[:2]) // LARGEST)
    if factor > 1:
        height, width = (size - size % factor for size in colours.shape[:2])
        blocks = colours[:height, :width].reshape(
            height // factor, factor, width // factor, factor, 3
        )
        colours = blocks.mean(axis=(1, 3))
    distance = np.abs(colours - _ground(colours)).max(axis=2)
    if distance.max() < FAINTEST:
        raise NoDigit("shows nothing: it has one colour all over")
    threshold = _otsu(distance)
    full = np.quantile(distance[distance > threshold], 0.9)
    # Half of the threshold is the edge of a stroke; below lies the grain of paper.
    ink = np.clip((distance - threshold / 2) / max(full - threshold / 2, 1e-6), 0, 1)
    return np.asarray(np.where(ink < 0.1, 0.0, ink))


def centre_digit(ink: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scale and centre ``ink (H, W)`` in [0, 1], 0 for none, as MNIST does: ``(28, 28) uint8``.

    Strokes that would be thinner than MNIST's are thickened first.

    Raises:
        NoDigit: there are several digits, or none.
    """
    ink = _one_digit(ink)
    rows, columns = np.nonzero(ink.max(axis=1))[0], np.nonzero(ink.max(axis=0))[0]
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    digit = _thickened(digit)
    scale = DIGIT_SIZE / max(digit.shape)
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    if scale != 1:
        method = Image.Resampling.BOX if scale < 0.5 else Image.Resampling.LANCZOS
        small = Image.fromarray(digit.astype(np.float32)).resize((width, height), method)
        digit = np.clip(np.asarray(small, dtype=np.float64), 0, 1)
        digit = digit / max(digit.max(), 1e-6)
    centred = np.zeros((SIDE, SIDE))
    centre = ndimage.center_of_mass(digit)
    top, left = (
        int(np.clip(round(SIDE / 2 - place), 0, SIDE - side))
        for place, side in zip(centre, digit.shape, strict=True)
    )
    centred[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return (255 * centred).round().astype(np.uint8)


def _ground(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ground, ``(H, W, 3)`` or ``(3,)``: a surface through the border's colours.

    A quadratic one, which follows the shade of a photograph and not its digit. It is fitted twice,
    without the tenth that is furthest off: a stroke may reach the border.
    """
    height, width = colours.shape[:2]
    if min(height, width) < SHADED:
        border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
        return np.asarray(np.median(border, axis=0))
    rows, columns = np.meshgrid(
        np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"
    )
    terms = np.stack(
        [np.ones_like(rows), rows, columns, rows**2, columns**2, rows * columns], axis=-1
    )
    inner = np.zeros((height, width), bool)
    inner[EDGE:-EDGE, EDGE:-EDGE] = True
    places, values = terms[~inner], colours[~inner]
    off = np.abs(values - np.median(values, axis=0)).max(axis=1)
    for _ in range(2):
        kept = off <= np.quantile(off, 0.9)
        surface = np.linalg.lstsq(places[kept], values[kept], rcond=None)[0]
        off = np.abs(values - places @ surface).max(axis=1)
    return np.asarray(terms @ surface)


def _otsu(values: NDArray[np.float64]) -> float:
    """Return the threshold that separates two groups best (Otsu 1979): the largest variance between."""
    counts, edges = np.histogram(values, bins=128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[np.nanargmax(between[:-1])])


def _one_digit(ink: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ink of the one digit, without dirt.

    Connected strokes that lie close to each other belong to one digit: a 5 may have its bar apart.
    """
    labels, count = ndimage.label(ink > 0, structure=np.ones((3, 3)))
    if count == 0:
        raise NoDigit("shows nothing: it has no strokes")
    boxes = [
        (rows.start, rows.stop, columns.start, columns.stop)
        for rows, columns in ndimage.find_objects(labels)
    ]
    weights = ndimage.sum_labels(ink, labels, range(1, count + 1))
    tall = max(max(box[1] - box[0], box[3] - box[2]) for box in boxes)
    kept = [i for i in range(count) if weights[i] >= 0.02 * weights.max()]
    groups: list[list[int]] = []
    for index in sorted(kept, key=lambda each: -weights[each]):
        near = [g for g in groups if any(_apart(boxes[index], boxes[o]) <= GAP * tall for o in g)]
        groups = [g for g in groups if g not in near] + [[index, *(i for g in near for i in g)]]
    sizes = [max(boxes[i][1] for i in group) - min(boxes[i][0] for i in group) for group in groups]
    large = [
        group
        for group, size in zip(groups, sizes, strict=True)
        if size >= ANOTHER_DIGIT * max(sizes)
    ]
    if len(large) > 1 and _is_row([_around(boxes, group) for group in large]):
        raise NoDigit(f"shows {len(large)} digits")
    members = [index + 1 for group in large for index in group]
    return np.asarray(np.where(np.isin(labels, members), ink, 0.0))


def _around(boxes: list[Box], group: list[int]) -> Box:
    tops, bottoms, lefts, rights = zip(*(boxes[index] for index in group), strict=True)
    return min(tops), max(bottoms), min(lefts), max(rights)


def _is_row(boxes: list[Box]) -> bool:
    """Return whether boxes lie side by side or one below the other as digits do.

    The pieces of one digit fill no more than a digit's usual box, which is no wider than it is high.
    """
    top, bottom, left, right = _around(boxes, list(range(len(boxes))))
    height, width = bottom - top, right - left
    return width > WIDEST * height or height > HIGHEST * width


def _apart(one: Box, other: Box) -> float:
    """Return the gap between two boxes; 0 if they overlap."""
    down = max(one[0] - other[1], other[0] - one[1], 0)
    right = max(one[2] - other[3], other[2] - one[3], 0)
    return float(np.hypot(down, right))


def _thickened(digit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Widen strokes that would be under ``THINNEST`` in MNIST's size to ``USUAL``."""
    mask = digit > 0.5
    if not mask.any():
        return digit
    scale = DIGIT_SIZE / max(digit.shape)
    # Over a stroke of width w the distance to its edge has the mean w / 4.
    width = 4 * float(ndimage.distance_transform_edt(mask)[mask].mean()) * scale
    if width >= THINNEST or scale > 1:
        return digit
    more = (USUAL - width) / 2 / scale
    room = int(np.ceil(more))
    padded = np.pad(digit, room)
    reach = ndimage.distance_transform_edt(np.pad(~mask, room, constant_values=True))
    return np.asarray(np.maximum(padded, np.clip(more + 0.5 - reach, 0, 1)))
