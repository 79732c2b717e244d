"""Arrays of a data set recognised by their names, such as ``x_train`` and ``val_images``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mnist_lab.data.arrays import Unusable
from mnist_lab.data.splits import PartName

_PARTS: Mapping[str, PartName] = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test", "t10k": "test",
}  # fmt: skip
_KINDS = {
    **dict.fromkeys(
        ("x", "image", "images", "img", "imgs", "data", "pixels", "features"), "images"
    ),
    **dict.fromkeys(("y", "label", "labels", "target", "targets", "class", "digit"), "labels"),
}


def part_of(name: str) -> PartName | None:
    """Return the part that a name of a file, folder or array speaks of."""
    found = {_PARTS[word] for word in _words(name) if word in _PARTS}
    return found.pop() if len(found) == 1 else None


def pair_up(names: Iterable[str]) -> dict[PartName, tuple[str, str]]:
    """Return the names of images and labels of each part; names that say no part are of ``train``.

    Raises:
        Unusable: there are no such pairs, images without labels, or two arrays for one place.
    """
    names = sorted(names)
    found: dict[tuple[PartName, str], list[str]] = {}
    for name in names:
        kinds = {_KINDS[word] for word in _words(name) if word in _KINDS}
        if len(kinds) == 1:
            found.setdefault((part_of(name) or "train", kinds.pop()), []).append(name)
    pairs: dict[PartName, tuple[str, str]] = {}
    for part in dict.fromkeys(part for part, _ in found):
        images, labels = (found.get((part, kind), []) for kind in ("images", "labels"))
        if len(images) == len(labels) == 1:
            pairs[part] = images[0], labels[0]
        elif (images and part != "test") or len(images) > 1:
            raise Unusable(
                f"the arrays {', '.join(names[:8])}",
                f"one array of images and one of labels for {part}",
            )
    if "train" not in pairs:
        raise Unusable(
            f"the arrays {', '.join(names[:8]) or 'none'}", "x_train, y_train (and x_test, y_test)"
        )
    return pairs


def _words(name: str) -> list[str]:
    """Split ``kmnist-train-imgs`` and ``trainImages`` at signs and capitals."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]
