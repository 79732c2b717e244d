"""Trials compared image by image, from the predictions that they have left.

Validation images only: the sealed ones stay sealed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data import Split
from mnist_lab.errors import MnistLabError
from mnist_lab.evaluation import Predictions, read_predictions
from mnist_lab.execution import KEPT_PREDICTIONS, TrialFiles
from mnist_lab.settings import Settings
from mnist_lab.study import Ledger, TrialFacts

# A suspected label: the models' other class must be likelier to them than everything else together.
LEAST_CONFIDENCE = 0.5


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One validation image and what models say of it.

    Attributes:
        index: in the validation part, from 0; ``place`` is the file or row of its source.
        label, said: class names; ``said`` is the class that most models answer.
        agreement: the share of the models that answer ``said``.
        confidence: the mean over models of the probability of ``said``; ``of_label`` of the label.
        answers: the class each model answers, in the order of the trials.
    """

    index: int
    place: str
    label: str
    said: str
    agreement: float
    confidence: float
    of_label: float
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """The images that good models miss.

    Attributes:
        trials: the names of the models, best first.
        images: how many validation images there are.
        missed_by_all: images that every model misses, the surest first.
        split: images on which the models disagree, the most evenly divided first.
        suspects: of ``missed_by_all`` those on whose other label all models agree, and are sure.
    """

    study: str
    trials: tuple[str, ...]
    images: int
    missed_by_all: tuple[ImageRow, ...]
    split: tuple[ImageRow, ...]
    suspects: tuple[ImageRow, ...]


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Two trials on the same images: how many only one of them gets right, by class of the label."""

    first: int
    second: int
    only_first: int
    only_second: int
    both_wrong: int
    by_class: Mapping[str, tuple[int, int]]
    only_first_images: tuple[ImageRow, ...]
    only_second_images: tuple[ImageRow, ...]


def read_kept(
    study: Ledger, trials: Sequence[TrialFacts], settings: Settings
) -> dict[int, Predictions]:
    """Read what ``trials`` have kept, from the study's folder or from MLflow; by number.

    Trials of which nothing was kept, nothing is left, or nothing can be read are not among them; nor
    those that only MLflow has while it is away, nor replicas that were validated on other images.
    """
    files, tracked = TrialFiles(settings.work / study.name), study.tracked()
    found, absent = {}, {}
    for trial in trials:
        if trial.left_out is not None:
            continue
        local = _read(files.artifacts(trial.number) / KEPT_PREDICTIONS)
        if local is not None:
            found[trial.number] = local
        elif trial.number in tracked:
            absent[trial.number] = tracked[trial.number].run
    return found | _fetch(absent, settings)


def _read(file: Path) -> Predictions | None:
    try:
        return read_predictions(file)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _fetch(runs: Mapping[int, str], settings: Settings) -> dict[int, Predictions]:
    """Read the predictions of MLflow's ``runs``, by number; what MLflow does not give is left out."""
    found: dict[int, Predictions] = {}
    if not runs:
        return found
    from mnist_lab.tracking.artifacts import fetch_artifact  # MLflow takes seconds to import
    from mnist_lab.tracking.store import open_client

    with suppress(MnistLabError):  # away, or of another version
        client = open_client(settings)
        for number, run in runs.items():
            with tempfile.TemporaryDirectory() as scratch:
                file = fetch_artifact(client, run, KEPT_PREDICTIONS, Path(scratch))
                read = _read(file) if file is not None else None
            if read is not None:
                found[number] = read
    return found


def find_mistakes(
    study: str,
    predictions: Mapping[str, Predictions],
    validation: Split,
    class_names: Sequence[str],
) -> Mistakes:
    """Find what the models (by name, best first) miss of the ``validation`` images.

    A label is suspected where all models agree on another and give it more than
    ``LEAST_CONFIDENCE`` in the mean: mistakes that good models share are often the labels' own
    (Northcutt, Jiang, Chuang 2021, "Confident learning").
    """
    classes = np.stack([each.classes for each in predictions.values()])
    shares = np.mean([each.probabilities for each in predictions.values()], axis=0)
    wrong = classes != validation.labels
    rows = _Rows(classes, shares, validation, class_names)
    all_wrong = np.flatnonzero(wrong.all(axis=0))
    divided = np.flatnonzero(wrong.any(axis=0) & ~wrong.all(axis=0))
    missed = sorted(map(rows.row, all_wrong), key=lambda row: (-row.confidence, row.index))
    half = len(predictions) / 2
    split = sorted(divided, key=lambda index: (abs(wrong[:, index].sum() - half), index))
    return Mistakes(
        study=study,
        trials=tuple(predictions),
        images=len(validation),
        missed_by_all=tuple(missed),
        split=tuple(map(rows.row, split)),
        suspects=tuple(
            row
            for row in missed
            if row.agreement == 1.0 and row.confidence > LEAST_CONFIDENCE and len(predictions) > 1
        ),
    )


def compare_pair(
    first: tuple[int, Predictions],
    second: tuple[int, Predictions],
    validation: Split,
    class_names: Sequence[str],
) -> PairRow:
    """Compare two trials image by image; the most confident differences come first.

    A row of an image that only one gets right says what the other one answers.
    """
    both = (first[1], second[1])
    right = np.stack([each.classes for each in both]) == validation.labels
    only = [np.flatnonzero(right[side] & ~right[1 - side]) for side in (0, 1)]
    images = []
    for side, wrong in ((0, both[1]), (1, both[0])):
        rows = _Rows(wrong.classes[None], wrong.probabilities, validation, class_names)
        sure = wrong.confidence
        images.append(tuple(map(rows.row, sorted(only[side], key=lambda i: (-sure[i], i)))))
    counts = [
        np.bincount(validation.labels[each], minlength=len(class_names)).tolist() for each in only
    ]
    return PairRow(
        first=first[0],
        second=second[0],
        only_first=len(only[0]),
        only_second=len(only[1]),
        both_wrong=int((~right).all(axis=0).sum()),
        by_class={name: (a, b) for name, a, b in zip(class_names, *counts, strict=True) if a or b},
        only_first_images=images[0],
        only_second_images=images[1],
    )


def count_differing(
    first: Predictions, second: Predictions, labels: NDArray[np.uint8]
) -> tuple[int, int]:
    """Count the images that only ``first``, and only ``second``, gets right."""
    right = first.classes == labels, second.classes == labels
    return int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())


@dataclass(frozen=True, eq=False)
class _Rows:
    classes: NDArray[np.uint8]
    shares: NDArray[np.float32]
    validation: Split
    names: Sequence[str]

    def row(self, index: int | np.int64) -> ImageRow:
        answers = self.classes[:, index]
        label = int(self.validation.labels[index])
        # The answer of most models; of equals, that of the surest.
        counts = np.bincount(answers, minlength=len(self.names))
        said = int(np.lexsort((self.shares[index], counts))[-1])
        places = self.validation.places
        return ImageRow(
            index=int(index),
            place="" if places is None else str(places[index]),
            label=self.names[label],
            said=self.names[said],
            agreement=float(np.mean(answers == said)),
            confidence=round(float(self.shares[index, said]), 4),
            of_label=round(float(self.shares[index, label]), 4),
            answers=tuple(self.names[int(each)] for each in answers),
        )
