"""``Dataset``: two disjoint, read-only splits, each identified by its digest, and what they show."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Images ``(N, H, W)`` or ``(N, H, W, 3) uint8``, labels ``(N,) uint8`` in [0, K), read-only.

    ``digest`` is the sha256 of shape, images and labels: two splits with one digest are the same.
    ``places (N,)`` says where each image lies in the source: a file's name, or ``train[123]``; None in
    workers.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    digest: str
    places: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.labels)


SMALLEST_SIDE, LARGEST_SIDE = 4, 224  # pixels
MOST_CLASSES = 255  # labels are uint8
DIGIT = "digit"  # cut out, scaled to 20x20 and centred by mass, as MNIST's authors did
PICTURE = "picture"  # resized in proportion and padded


@dataclass(frozen=True, kw_only=True)
class ImageForm:
    """The form of a data set's images: all that a model must know to be built and to be served.

    ``shape`` is ``(H, W)`` of grey and ``(H, W, 3)`` of colour images, uint8. ``preparation`` says how
    a new picture is brought to it: ``DIGIT`` or ``PICTURE``. ``brightness`` holds the 0.1 % and 99.9 %
    quantiles of the training images' means, in [0, 255]. The defaults are MNIST's, which earlier
    versions took for granted.
    """

    shape: tuple[int, ...] = (28, 28)
    class_names: tuple[str, ...] = tuple("0123456789")
    preparation: str = DIGIT
    brightness: tuple[float, float] | None = None

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def is_colour(self) -> bool:
        return len(self.shape) == 3

    @property
    def is_possible(self) -> bool:
        """Return whether a data set may have such images; a form is also read from a registry."""
        sides = [side for side in self.shape[:2] if SMALLEST_SIDE <= side <= LARGEST_SIDE]
        is_image = len(sides) == 2 and self.shape[2:] in ((), (3,))
        return is_image and 2 <= self.classes <= MOST_CLASSES

    def takes_the_same(self, other: ImageForm) -> bool:
        """Return whether a model of one takes the images of the other, and has as many classes."""
        return (self.shape, self.classes) == (other.shape, other.classes)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> ImageForm:
        """Read what ``asdict`` made, also by way of JSON; None is MNIST's form."""
        if not data:
            return cls()
        return cls(
            shape=tuple(data["shape"]),
            class_names=tuple(data["class_names"]),
            preparation=data["preparation"],
            brightness=tuple(data["brightness"]) if data.get("brightness") else None,
        )


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What is said of a data set before anything is trained.

    ``sentence`` is that in words. ``test_images`` are sealed. ``duplicates`` counts the images of
    validation and test that training has too. ``content`` is the sha256 of all images in
    whatever order: two files with one content hold the same pictures.
    """

    sentence: str = ""
    test_images: int = 0
    duplicates: int = 0
    content: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """The training and validation splits of a data set, never its test images.

    ``source`` is the name or path that ``load_dataset`` was called with, made absolute, so that the
    same data can be loaded again, anywhere and later, with the same ``image_size``.
    """

    name: str
    source: str
    train: Split
    validation: Split
    form: ImageForm = field(default_factory=ImageForm)
    image_size: int | None = None
    facts: DatasetFacts = field(default_factory=DatasetFacts)

    @property
    def classes(self) -> int:
        return self.form.classes

    @property
    def digest(self) -> str:
        """sha256 over the digests of both splits: one value that names the data of a study."""
        return hashlib.sha256(f"{self.train.digest}{self.validation.digest}".encode()).hexdigest()


def make_split(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    places: NDArray[np.str_] | None = None,
) -> Split:
    """Freeze the arrays and compute their digest."""
    images, labels = np.ascontiguousarray(images), np.ascontiguousarray(labels)
    content = hashlib.sha256(str(images.shape).encode())
    content.update(images.data)
    content.update(labels.data)
    images.flags.writeable = labels.flags.writeable = False
    return Split(images=images, labels=labels, digest=content.hexdigest(), places=places)
