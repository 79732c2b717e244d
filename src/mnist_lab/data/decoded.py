"""Pictures decoded once to one size, kept under the digest of their bytes.

20,000 pictures take as long as their files take to be decoded; the second time as long as the files
take to be read, for their digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from mnist_lab.data.arrays import Unusable
from mnist_lab.data.dataset import LARGEST_SIDE
from mnist_lab.data.pictures import UnreadablePicture, decode, fit, is_grey, open_picture
from mnist_lab.data.readers import Pictures, RawPart
from mnist_lab.data.splits import PartName

DEFAULT_SIDE = 32  # of pictures of several sizes: CIFAR's
# More unreadable files than this share are no accident.
MOST_UNREADABLE = 0.01
# Part of the free memory that the pixels may take: the trials need the rest.
MEMORY_SHARE = 0.5
_RULES = "1"  # another number for another way of decoding: pixels of the former are not taken

Progress = Callable[[int, int], None]  # pictures done, of how many


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """``images (N, H, W)`` or ``(N, H, W, 3)``, ``kept (N,) bool`` of the pictures that were readable.

    ``notes`` say what was done: sizes, resizing, files left out.
    """

    images: Mapping[PartName, NDArray[np.uint8]]
    kept: Mapping[PartName, NDArray[np.bool_]]
    notes: tuple[str, ...]


def decode_parts(
    parts: Mapping[PartName, RawPart], *, side: int | None, folder: Path, progress: Progress
) -> Decoded:
    """Decode the pictures of all parts to one size and colour; from ``folder`` if they lie there.

    The size is the common one, or ``side`` squared (32 by default). All are grey or all are colour.

    Raises:
        Unusable: too many unreadable pictures, or more pixels than the memory has room for.
    """
    given = {part: raw.images for part, raw in parts.items() if isinstance(raw.images, Pictures)}
    kept_in = folder / _digest(given, side)
    if not (kept_in / "about.json").exists():
        shutil.rmtree(kept_in, ignore_errors=True)
        partial = kept_in.with_name(f"{kept_in.name}.{os.getpid()}.part")
        partial.mkdir(parents=True)
        try:
            _decode_into(partial, given, side, progress)
            with suppress(OSError):  # another process was first: what it kept is the same
                partial.replace(kept_in)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    about = json.loads((kept_in / "about.json").read_text())
    return Decoded(
        images={part: np.load(kept_in / f"{part}.npy", mmap_mode="r") for part in given},
        kept={part: np.load(kept_in / f"{part}-kept.npy") for part in given},
        notes=tuple(about["notes"]),
    )


def _digest(given: Mapping[PartName, Pictures], side: int | None) -> str:
    content = hashlib.sha256(f"{_RULES} {side}".encode())
    for part, pictures in given.items():
        with ThreadPoolExecutor() as pool:
            each = pool.map(
                lambda row, pictures=pictures: hashlib.sha256(pictures.read(row)).digest(),
                range(len(pictures)),
                chunksize=64,
            )
            for name, digest in zip(pictures.names, each, strict=True):
                content.update(f"{part} {name} ".encode() + digest)
    return content.hexdigest()


def _decode_into(
    folder: Path, given: Mapping[PartName, Pictures], side: int | None, progress: Progress
) -> None:
    sizes = _sizes(given)
    readable = [size for size in sizes if size is not None]
    size = _target(readable, side) if readable else (DEFAULT_SIDE,) * 2
    _require_memory(len(readable), size)
    done, bad = 0, []
    decoded: dict[PartName, NDArray[np.uint8]] = {}
    for part, pictures in given.items():
        images = np.zeros((len(pictures), *size, 3), np.uint8)
        kept = np.zeros(len(pictures), bool)
        for row, pixels in _decoded(pictures, size):
            done += 1
            progress(done, len(sizes))
            if pixels is None:
                bad.append(pictures.names[row])
            else:
                images[row], kept[row] = pixels, True
        decoded[part] = images if kept.all() else images[kept]
        np.save(folder / f"{part}-kept.npy", kept)
    _require_readable(bad, len(sizes))
    grey = all(is_grey(images) for images in decoded.values())
    for part, images in decoded.items():
        np.save(folder / f"{part}.npy", images[..., 0] if grey else images)
    notes = [f"{len(bad):,} unreadable {'picture' if len(bad) == 1 else 'pictures'} left out"]
    notes = notes if bad else []
    least, most = min(min(each) for each in readable), max(max(each) for each in readable)
    if set(readable) != {size}:
        notes.append(
            f"pictures of {least:,} to {most:,} pixels, resized to {size[0]}x{size[1]} by padding"
        )
    (folder / "about.json").write_text(json.dumps({"notes": notes}))


def _require_readable(bad: list[str], count: int) -> None:
    if len(bad) == count or len(bad) > MOST_UNREADABLE * count:
        raise Unusable(
            f"{len(bad):,} of {count:,} pictures unreadable ({', '.join(bad[:5])}, …)",
            f"at most {MOST_UNREADABLE:.0%}",
            "Delete them, or store them anew.",
        )


def _sizes(given: Mapping[PartName, Pictures]) -> list[tuple[int, int] | None]:
    """Return height and width of each picture, by its head; None of those that cannot be read."""

    def size(pictures: Pictures, row: int) -> tuple[int, int] | None:
        try:
            with open_picture(pictures.read(row)) as picture:
                turned = picture.getexif().get(0x0112, 1) >= 5  # orientations with swapped sides
                return (
                    (picture.width, picture.height) if turned else (picture.height, picture.width)
                )
        except (UnreadablePicture, OSError, ValueError, SyntaxError):
            return None

    with ThreadPoolExecutor() as pool:
        return [
            found
            for pictures in given.values()
            for found in pool.map(lambda row, p=pictures: size(p, row), range(len(pictures)))
        ]


def _target(sizes: list[tuple[int, int]], side: int | None) -> tuple[int, int]:
    if side is not None:
        return side, side
    common, _ = Counter(sizes).most_common(1)[0]
    return common if len(set(sizes)) == 1 and max(common) <= LARGEST_SIDE else (DEFAULT_SIDE,) * 2


def _require_memory(count: int, size: tuple[int, int]) -> None:
    needed = count * size[0] * size[1] * 3
    room = MEMORY_SHARE * psutil.virtual_memory().available
    if needed > room:
        fitting = int((room / (3 * count)) ** 0.5)
        raise Unusable(
            f"{count:,} pictures of {size[0]}x{size[1]}, {needed / 1e9:.1f} GB of pixels",
            f"at most {room / 1e9:.1f} GB, half of the free memory",
            f"Give --image-size {fitting} or less.",
        )


def _decoded(
    pictures: Pictures, size: tuple[int, int]
) -> Iterator[tuple[int, NDArray[np.uint8] | None]]:
    """Decode in threads (Pillow's decoders release Python's lock), a few ahead of the consumer."""

    def pixels(row: int) -> NDArray[np.uint8] | None:
        try:
            return np.asarray(fit(decode(pictures.read(row)), size).convert("RGB"))
        except (UnreadablePicture, OSError):
            return None

    with ThreadPoolExecutor() as pool:
        for first in range(0, len(pictures), 1024):  # bounded: a picture unpacked is large
            rows = range(first, min(first + 1024, len(pictures)))
            yield from zip(rows, pool.map(pixels, rows), strict=True)
