"""``Fingerprint`` and ``StudyRecord``: what all trials of a study share."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass

import optuna

from mnist_lab.data import Dataset
from mnist_lab.errors import (
    ConfigurationError,
)
from mnist_lab.spaces import SearchSpace
from mnist_lab.study.config import SweepConfig
from mnist_lab.tracking import SplitFacts, StudyRecord

_FINGERPRINT = "mnist_lab"


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What all trials of a study share; a study with another one is another study."""

    space: str
    space_digest: str
    reference: str
    family: str
    dataset: str
    dataset_source: str
    dataset_digest: str
    epochs: int
    fixed: str
    sources: str = ""  # of the space's file and its neighbours; older studies have none

    def differences(self, other: Fingerprint) -> list[str]:
        """One line a difference that makes results incomparable; paths may differ."""
        mine, theirs = asdict(self), asdict(other)
        keys = ["space", "space_digest", "dataset_digest", "epochs", "fixed"]
        code = self.sources and self.sources != other.sources
        if self.sources == self.space_digest:  # of a space that asks there is nothing but its code
            keys.remove("space_digest")
        changed = f"{other.reference}, or a file beside it, has changed" if code else ""
        return [*([changed] if changed else [])] + [
            f"{key} {str(theirs[key])[:16]} (the study has {str(mine[key])[:16]})"
            for key in keys
            if mine[key] != theirs[key]
        ]


def fingerprint(config: SweepConfig, space: SearchSpace, dataset: Dataset) -> Fingerprint:
    """What a study of these three is made with."""
    return Fingerprint(
        space=space.id,
        space_digest=space.digest,
        reference=space.reference,
        family=space.name,
        dataset=dataset.name,
        dataset_source=dataset.source,
        dataset_digest=dataset.digest,
        epochs=config.epochs,
        fixed=json.dumps(dict(config.set), sort_keys=True),
        sources=space.sources,
    )


def make_record(
    name: str, config: SweepConfig, space: SearchSpace, dataset: Dataset
) -> StudyRecord:
    """What stands on the page of a new study; its id is drawn here."""
    return StudyRecord(
        id=uuid.uuid4().hex,
        name=name,
        family=space.name,
        space=space.id,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        splits={
            context: SplitFacts(images=len(split), sha256=split.digest)
            for context, split in (("train", dataset.train), ("validation", dataset.validation))
        },
        settings={
            "sampler": config.sampler,
            "pruner": config.pruner,
            "epochs": str(config.epochs),
            "seed": str(config.seed),
            "space_digest": space.digest,
            "optuna": optuna.__version__,
            **{f"set.{key}": str(value) for key, value in config.set.items()},
        },
    )


def require_readable(made_with: Fingerprint) -> None:
    """Refuse a study of a hypermodel that an earlier version explored beforehand.

    Raises:
        ConfigurationError: its space is known otherwise now.
    """
    if not made_with.sources:
        raise ConfigurationError(
            f"The study was made by an earlier mnist-lab, which read {made_with.reference} otherwise.",
            safe="Nothing was trained. Its runs and registered models stay as they are.",
            next_step="Sweep the file again, under another --study.",
        )


def read_fingerprint(study: optuna.Study) -> Fingerprint | None:
    """What ``study`` was made with; None if mnist-lab did not make it."""
    stored = study.user_attrs.get(_FINGERPRINT)
    return Fingerprint(**stored) if stored else None
