"""``predict``: classify pictures with a registered model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mlflow import MlflowClient

from mnist_lab.models.pictures import Picture
from mnist_lab.models.versions import load_version
from mnist_lab.settings import Settings
from mnist_lab.training import VALIDATION_BATCH


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The class with the highest of ``probabilities`` (one a class), and that probability."""

    source: str
    label: int
    probability: float
    probabilities: tuple[float, ...]


def predict(
    client: MlflowClient, reference: str, pictures: Sequence[Picture], settings: Settings
) -> tuple[str, list[Prediction]]:
    """Classify ``pictures`` with ``MODEL@ALIAS``; return the version's name, as MODEL/VERSION, too.

    Raises:
        UsageError, UnknownNameError, DataError: as ``load_version``.
    """
    version, network = load_version(client, reference, settings)
    pixels = np.stack([picture.pixels for picture in pictures])
    found = network.predict(pixels, batch_size=VALIDATION_BATCH, verbose=0)
    return f"{version.name}/{version.version}", [
        Prediction(
            source=picture.source,
            label=int(row.argmax()),
            probability=float(row.max()),
            probabilities=tuple(float(f"{each:.7g}") for each in row),
        )
        for picture, row in zip(pictures, found, strict=True)
    ]
