"""The sentence about a data set that is said before anything is trained."""

from __future__ import annotations

import numpy as np

from mnist_lab.data.splits import Parts

MOST_NAMED = 10  # classes that are listed one by one
DARK = 128


def describe(
    name: str, parts: Parts, names: tuple[str, ...], notes: tuple[str, ...], duplicates: int
) -> str:
    """Return, for example, ``faces: 2 classes (cat 500, dog 500), 1,000 colour images of 32x32; …``."""
    labels = np.concatenate([parts.train.labels, parts.validation.labels, parts.test.labels])
    shape = parts.train.images.shape[1:]
    colour = "colour" if len(shape) == 3 else "grey"
    size = f"{len(labels):,} {colour} images of {shape[0]}x{shape[1]}"
    said = [f"{name}: {len(names)} classes ({_counts(labels, names)}), {size}", *notes]
    brightest = int(parts.train.images.max())
    if brightest < DARK:
        said.append(f"the brightest pixel is {brightest} of 255")
    said.append(
        f"{len(parts.train.labels):,} to train, {len(parts.validation.labels):,} to validate, "
        f"{len(parts.test.labels):,} sealed for the test"
    )
    said.extend(parts.rules)
    if duplicates:
        copies = "copy" if duplicates == 1 else "copies"
        said.append(f"{duplicates:,} {copies} of images of another part in validation or test")
    return "; ".join(said) + "."


def _counts(labels: np.ndarray, names: tuple[str, ...]) -> str:
    counts = np.bincount(labels, minlength=len(names))
    if len(names) <= MOST_NAMED:
        return ", ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))
    return f"{names[0]} to {names[-1]}, {counts.min():,} to {counts.max():,} images each"
