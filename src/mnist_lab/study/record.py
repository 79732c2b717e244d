"""Making, reading and comparing ``StudyRecord``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import optuna

from mnist_lab.config import SweepConfig
from mnist_lab.data import Dataset, ImageForm
from mnist_lab.errors import ConfigurationError
from mnist_lab.spaces import SearchSpace
from mnist_lab.tracking import SplitFacts, StudyRecord

# The attributes of an Optuna study that hold its record. Earlier versions wrote a part to each.
_RECORD, _EARLIER = "record", "mnist_lab"
_COMPARED = (
    "space",
    "space_digest",
    "dataset_digest",
    "epochs",
    "fixed",
    "objective",
    "class_weights",
)


def make_record(
    name: str,
    config: SweepConfig,
    space: SearchSpace,
    dataset: Dataset,
    *,
    home: Path | None = None,
) -> StudyRecord:
    """Make the record of a new study; its id is drawn here.

    A path of data below ``home`` is recorded relative to it, so that a home can be moved.
    """
    return StudyRecord(
        id=uuid.uuid4().hex,
        name=name,
        family=space.name,
        space=space.id,
        reference=space.reference,
        space_digest=space.digest,
        sources=space.sources,
        dataset=dataset.name,
        dataset_source=_below(home, dataset.source),
        image_size=dataset.image_size,
        images=dataset.form,
        data=dataset.facts.sentence,
        objective=config.objective,
        class_weights=config.class_weights,
        dataset_digest=dataset.digest,
        epochs=config.epochs,
        fixed=json.dumps(dict(config.set), sort_keys=True),
        splits={
            context: SplitFacts(images=len(split), sha256=split.digest)
            for context, split in (("train", dataset.train), ("validation", dataset.validation))
        },
        settings={
            "sampler": config.sampler,
            "pruner": config.pruner,
            "epochs": str(config.epochs),
            "objective": config.objective,
            "class_weights": config.class_weights,
            "seed": str(config.seed),
            **({"warm_start": config.warm_start} if config.warm_start != "none" else {}),
            "space_digest": space.digest,
            "optuna": optuna.__version__,
            **{f"set.{key}": str(value) for key, value in config.set.items()},
            **{f"limit.{key}": str(value) for key, value in config.limit.items()},
        },
    )


def _below(home: Path | None, source: str) -> str:
    if home is not None and Path(source).is_absolute() and Path(source).is_relative_to(home):
        return str(Path(source).relative_to(home))
    return source


def write_record(study: optuna.Study, record: StudyRecord) -> None:
    """Write the record of a new study."""
    study.set_user_attr(_RECORD, asdict(record))


def read_record(attributes: Mapping[str, Any], name: str) -> StudyRecord | None:
    """Read the record from a study's user attributes; None if mnist-lab did not make the study.

    A study of an earlier version that was interrupted as it was made has a record without an ``id``.
    """
    stored = {**attributes.get(_EARLIER, {}), **attributes.get(_RECORD, {})}
    if "reference" not in stored:
        return None
    known = {each.name for each in fields(StudyRecord)}
    unfinished = {"id": "", "name": name, "settings": {}}
    kept = {**unfinished, **{key: value for key, value in stored.items() if key in known}}
    splits = {context: SplitFacts(**facts) for context, facts in stored.get("splits", {}).items()}
    images = ImageForm.from_dict(stored.get("images"))
    return StudyRecord(**{**kept, "splits": splits, "images": images})


def differences(found: StudyRecord, wanted: StudyRecord) -> list[str]:
    """List the facts that make results of two records incomparable, a line each; paths may differ."""
    is_code_only = found.sources and found.sources == found.space_digest  # a space that asks
    compared = [key for key in _COMPARED if not (is_code_only and key == "space_digest")]
    changed = f"{wanted.reference}, or a file beside it, has changed"
    return [changed] * bool(found.sources and found.sources != wanted.sources) + [
        f"{key} {str(getattr(wanted, key))[:16]} (the study has {str(getattr(found, key))[:16]})"
        for key in compared
        if getattr(found, key) != getattr(wanted, key)
    ]


def require_readable(record: StudyRecord) -> None:
    """Refuse a study of a hypermodel whose space an earlier version explored beforehand.

    Raises:
        ConfigurationError: its parameters are found otherwise now.
    """
    if not record.sources:
        raise ConfigurationError(
            f"The study was made by an earlier mnist-lab, which read {record.reference} otherwise.",
            safe="Nothing was trained. Its runs and registered models stay as they are.",
            next_step="Sweep the file again, under another --study.",
        )
