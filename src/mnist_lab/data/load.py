"""Loading a ``Dataset`` by its name or path: read, convert, number the classes, divide, check."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data.arrays import (
    Unusable,
    as_pixels,
    flat_labels,
    number_classes,
)
from mnist_lab.data.dataset import (
    LARGEST_SIDE,
    SMALLEST_SIDE,
    Dataset,
    DatasetFacts,
    ImageForm,
    Split,
    make_split,
)
from mnist_lab.data.decoded import Progress, decode_parts
from mnist_lab.data.named import BUNDLED, DIGITS, DOWNLOADABLE, NAMES, locate_named, read_digits
from mnist_lab.data.pictures import is_grey
from mnist_lab.data.preparation import find_preparation
from mnist_lab.data.readers import WAYS, Pictures, RawPart, Source, read_source
from mnist_lab.data.readers.find import refuse
from mnist_lab.data.sentence import describe
from mnist_lab.data.splits import Labelled, PartName, Parts, divide, image_digests
from mnist_lab.errors import DataError
from mnist_lab.settings import Settings

# sha256 digests (``dataset.make_split``) of the bundled MNIST: a flipped bit in it is refused.
BUNDLED_DIGESTS = {
    "train": "0e7dbe9434c81792b843d97fe34b43a29dc1a31a6ee4540cdb1c76617567ef5f",
    "validation": "96256845e9f57411a8d0552634a250a7445d547185f4fd6914a9c6b80e46e608",
    "test": "26120b4578752d7d87c2cb6601f15f4b0efd4dd7947b156b4f7aa2d35f931d2f",
}
MOST_DUPLICATES = 0.01  # of the images of validation and test


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A data set with its sealed test images. Only ``load_dataset`` and ``sealed`` make use of it."""

    dataset: Dataset
    test: Split


def load_dataset(
    name_or_path: str = BUNDLED,
    *,
    image_size: int | None = None,
    most_duplicates: float = MOST_DUPLICATES,
    data_folder: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """Load the training and validation splits of a data set; the test images stay sealed.

    Args:
        name_or_path: a name of ``NAMES``, or a path that a reader takes (``readers.WAYS``).
        image_size: the side that pictures are resized to; by default their common size, else 32.
        most_duplicates: the share of validation and test images that training may have too.
        data_folder: where downloads and decoded pictures are kept; that of ``Settings`` by default.
        progress: called with the counts of pictures decoded and of all.

    Raises:
        DataError: it is not there, is damaged, or is no labelled images; it says what would do.
    """
    return load_all(
        name_or_path,
        image_size=image_size,
        most_duplicates=most_duplicates,
        data_folder=data_folder,
        progress=progress,
    ).dataset


def load_all(
    name_or_path: str,
    *,
    image_size: int | None = None,
    most_duplicates: float = MOST_DUPLICATES,
    data_folder: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Loaded:
    """Load all three splits; raises as ``load_dataset``."""
    folder = (data_folder or Settings().data_folder).resolve()
    path = None if name_or_path == DIGITS else locate(name_or_path, data_folder=folder)
    source = read_digits() if path is None else read_source(path)
    is_named = name_or_path in NAMES
    name = name_or_path if is_named or path is None else _name_of(path)
    try:
        given, names, notes = _convert(source, image_size, folder / "decoded", progress)
        parts = divide(given, len(names), shuffled=source.shuffled)
        _require_classes(parts, names)
        facts = _facts(name, parts, DOWNLOADABLE.get(name_or_path) or names, notes, most_duplicates)
    except Unusable as error:
        raise refuse(name_or_path, error) from error
    splits = {part: _split(getattr(parts, part)) for part in ("train", "validation", "test")}
    if name_or_path == BUNDLED:
        _require_undamaged(path, splits)
    return Loaded(
        dataset=Dataset(
            name=name,
            source=name_or_path if is_named else str(path),
            train=splits["train"],
            validation=splits["validation"],
            form=ImageForm(
                shape=parts.train.images.shape[1:],
                class_names=DOWNLOADABLE.get(name_or_path) or names,
                preparation=find_preparation(parts.train.images, len(names)),
                brightness=_brightness(parts.train.images),
            ),
            image_size=image_size,
            facts=facts,
        ),
        test=splits["test"],
    )


def locate(name_or_path: str, *, data_folder: Path | None = None) -> Path:
    """Return the absolute path of a data set, downloading a known name that is not there yet."""
    if name_or_path in NAMES:
        return locate_named(name_or_path, (data_folder or Settings().data_folder).resolve())
    path = Path(name_or_path).expanduser().resolve()
    if not path.exists():
        raise DataError(
            f"There is no data set {name_or_path!r}: not a known name ({', '.join(NAMES)}) "
            "and no such file or folder.",
            safe="Nothing was trained.",
            next_step=WAYS,
        )
    return path


def _name_of(path: Path) -> str:
    """Name a data set after its file, in characters that studies and MLflow's models may have."""
    return re.sub(r"[^\w-]+", "-", path.stem if path.is_file() else path.name).strip("-_") or "data"


def _convert(
    source: Source, image_size: int | None, cache: Path, progress: Progress
) -> tuple[dict[PartName, Labelled], tuple[str, ...], tuple[str, ...]]:
    """Return each part's pixels and numbered labels, the classes' names, and the notes."""
    notes, parts = list(source.notes), dict(source.parts)
    places = {part: _places(part, raw) for part, raw in parts.items()}
    if any(isinstance(raw.images, Pictures) for raw in parts.values()):
        decoded = decode_parts(parts, side=image_size, folder=cache, progress=progress)
        notes.extend(decoded.notes)
        parts = {
            part: RawPart(images=decoded.images[part], labels=raw.labels[decoded.kept[part]])
            for part, raw in parts.items()
        }
        places = {part: places[part][decoded.kept[part]] for part in parts}
    elif image_size is not None:
        raise Unusable("arrays, which are not resized", "pictures with --image-size",
                       "Leave --image-size out.")  # fmt: skip
    images = {
        part: as_pixels(np.asarray(raw.images), f"images of {part}") for part, raw in parts.items()
    }
    if all(each.ndim == 4 and is_grey(each) for each in images.values()):
        images = {part: np.ascontiguousarray(each[..., 0]) for part, each in images.items()}
    labels = {
        part: flat_labels(np.asarray(raw.labels), f"labels of {part}")
        for part, raw in parts.items()
    }
    _require_fitting(images, labels)
    numbered, names = number_classes(labels, source.class_names)
    return (
        {
            part: Labelled(images=images[part], labels=numbered[part], places=places[part])
            for part in images
        },
        names,
        tuple(notes),
    )


def _places(part: PartName, raw: RawPart) -> NDArray[np.str_]:
    if isinstance(raw.images, Pictures):
        return np.array(raw.images.names)
    return np.array([f"{part}[{row}]" for row in range(len(raw.images))])


def _require_fitting(
    images: Mapping[PartName, NDArray[np.uint8]], labels: Mapping[PartName, NDArray[Any]]
) -> None:
    shapes = {array.shape[1:] for array in images.values()}
    if len(shapes) > 1:
        raise Unusable(f"parts of different shapes {sorted(shapes)}", "one shape")
    for part, array in images.items():
        if len(array) != len(labels[part]):
            raise Unusable(
                f"{len(array):,} images and {len(labels[part]):,} labels of {part}",
                "as many labels as images",
            )
    height, width = shapes.pop()[:2]
    if min(height, width) < SMALLEST_SIDE or max(height, width) > LARGEST_SIDE:
        raise Unusable(
            f"images of {height}x{width} pixels", f"{SMALLEST_SIDE} to {LARGEST_SIDE} a side"
        )


def _require_classes(parts: Parts, names: tuple[str, ...]) -> None:
    """Refuse data whose training part lacks a class that another part has."""
    trained = set(np.unique(parts.train.labels))
    lacking = [name for label, name in enumerate(names) if label not in trained]
    if lacking:
        known = [name for label, name in enumerate(names) if label in trained]
        raise Unusable(
            f"no training images of {', '.join(lacking[:5])}",
            f"the classes of the training part ({', '.join(known[:5])}, …) in each part",
        )


def _facts(
    name: str,
    parts: Parts,
    names: tuple[str, ...],
    notes: tuple[str, ...],
    most_duplicates: float,
) -> DatasetFacts:
    digests = {
        part: image_digests(getattr(parts, part).images) for part in ("train", "validation", "test")
    }
    seen = set(digests["train"])
    held_out = [*digests["validation"], *digests["test"]]
    duplicates = sum(each in seen for each in held_out) + len(
        set(digests["validation"]) & set(digests["test"])
    )
    if duplicates > most_duplicates * len(held_out):
        raise Unusable(
            f"{duplicates:,} of {len(held_out):,} images of validation and test in another part too",
            f"at most {most_duplicates:.0%}",
            f"Delete the copies, or give --most-duplicates {duplicates / len(held_out) + 0.005:.2f}.",
        )
    content = hashlib.sha256(b"".join(sorted([*digests["train"], *held_out])))
    return DatasetFacts(
        sentence=describe(name, parts, names, notes, duplicates),
        test_images=len(parts.test.labels),
        duplicates=duplicates,
        content=content.hexdigest(),
    )


def _brightness(images: NDArray[np.uint8]) -> tuple[float, float]:
    means = images.reshape(len(images), -1).mean(axis=1)
    low, high = np.quantile(means, (0.001, 0.999))
    return round(float(low), 2), round(float(high), 2)


def _split(part: Labelled) -> Split:
    return make_split(part.images, part.labels, part.places)


def _require_undamaged(path: Path | None, splits: Mapping[str, Split]) -> None:
    found = {part: split.digest for part, split in splits.items()}
    if found != BUNDLED_DIGESTS:
        raise DataError(
            f"{path} is damaged: its digests are {found}, expected {BUNDLED_DIGESTS}.",
            safe="Nothing was trained.",
            next_step="Install mnist-lab again.",
        )
