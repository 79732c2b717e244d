"""``predict``: classify pictures with a registered model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from mnist_lab.data import ImageForm
from mnist_lab.models.pictures import read_pictures
from mnist_lab.models.versions import find_version, find_version_model, load_version
from mnist_lab.settings import Settings
from mnist_lab.training import VALIDATION_BATCH


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The class with the highest of ``probabilities`` (one a class), its name, and that probability.

    ``unlike`` says in which way the picture is unlike the training images; empty if in none.
    """

    source: str
    label: int
    name: str
    probability: float
    probabilities: tuple[float, ...]
    unlike: str = ""


def predict(
    client: MlflowClient,
    reference: str,
    paths: Sequence[Path],
    settings: Settings,
    *,
    as_is: bool = False,
) -> tuple[str, ImageForm, list[Prediction]]:
    """Classify pictures with ``MODEL@ALIAS``; return the version, as MODEL/VERSION, and its form, too.

    Raises:
        UsageError, UnknownNameError, DataError: as ``load_version`` and ``read_pictures``.
    """
    version, images, network = load_version(client, reference, settings)
    pictures = list(read_pictures(paths, images, as_is=as_is))
    pixels = np.stack([picture.pixels for picture in pictures])
    found = network.predict(pixels, batch_size=VALIDATION_BATCH, verbose=0)
    return (
        f"{version.name}/{version.version}",
        images,
        [
            Prediction(
                source=picture.source,
                label=int(row.argmax()),
                name=images.class_names[int(row.argmax())],
                probability=float(row.max()),
                probabilities=tuple(float(f"{each:.7g}") for each in row),
                unlike=_unlike(picture.pixels, images),
            )
            for picture, row in zip(pictures, found, strict=True)
        ],
    )


def encode_request(
    client: MlflowClient, reference: str, paths: Sequence[Path], *, as_is: bool = False
) -> dict[str, Any]:
    """Return what to send to ``serve`` for pictures: their pixels, as JSON has them.

    Raises:
        UsageError, UnknownNameError, DataError: as ``find_version`` and ``read_pictures``.
    """
    images = find_version_model(client, find_version(client, reference)).images
    return {
        "inputs": [picture.pixels.tolist() for picture in read_pictures(paths, images, as_is=as_is)]
    }


def _unlike(pixels: NDArray[np.uint8], images: ImageForm) -> str:
    if images.brightness is None:
        return ""
    low, high = images.brightness
    mean = float(pixels.mean())
    if low <= mean <= high:
        return ""
    kind = "darker" if mean < low else "lighter"
    return f"{kind} than the training images (mean {mean:.0f}, theirs {low:.0f} to {high:.0f})"
