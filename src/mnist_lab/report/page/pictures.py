"""Pictures in a page: one PNG of all tiles, and the place of each in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from mnist_lab.data import Split

COLUMNS = 16
LARGEST_TILE, SHOWN_SIDE = 48, 56  # pixels


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """Tiles of ``width`` x ``height`` pixels in one PNG, shown ``scale`` times as large."""

    uri: str = ""
    width: int = 0
    height: int = 0
    scale: int = 1
    columns: int = COLUMNS
    places: dict[int, int] = field(default_factory=dict)

    def style(self, index: int) -> str:
        """Return where image ``index`` lies, as the style of an element of class ``pic``."""
        row, column = divmod(self.places[index], self.columns)
        return (
            f"background-position:-{column * self.width * self.scale}px "
            f"-{row * self.height * self.scale}px"
        )

    @property
    def css(self) -> str:
        """Return the rule that all pictures share."""
        if not self.uri:
            return ""
        rows = -(-len(self.places) // self.columns)
        return (
            f".pic{{width:{self.width * self.scale}px;height:{self.height * self.scale}px;"
            f"background-image:url({self.uri});background-size:"
            f"{self.columns * self.width * self.scale}px {rows * self.height * self.scale}px}}"
        )


def make_sprite(split: Split, indices: Sequence[int]) -> Sprite:
    """Put the images of ``indices`` into one PNG; large ones are reduced."""
    chosen = list(dict.fromkeys(indices))
    if not chosen:
        return Sprite()
    tiles = [_tile(split.images[index]) for index in chosen]
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.zeros((rows * height, COLUMNS * width, *tiles[0].shape[2:]), np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, COLUMNS)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return Sprite(
        uri="data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        width=width,
        height=height,
        scale=max(1, round(SHOWN_SIDE / max(width, height))),
        places={index: place for place, index in enumerate(chosen)},
    )


def _tile(
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    side = max(image.shape[:2])
    if side <= LARGEST_TILE:
        return image
    height, width = (round(each * LARGEST_TILE / side) for each in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
