"""Data sets as inputs of runs."""

from __future__ import annotations

import json

from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag

from mnist_lab.tracking.records import SplitFacts, StudyRecord

DIGEST_LENGTH = 36  # MLflow's limit for a dataset's digest; the whole sha256 is in the tags


def dataset_inputs(study: StudyRecord) -> list[DatasetInput]:
    """Make MLflow's inputs of a study's splits, which are shown on a run."""
    return [_dataset_input(study, context, split) for context, split in study.splits.items()]


def _dataset_input(study: StudyRecord, context: str, split: SplitFacts) -> DatasetInput:
    name, shape = study.dataset, ", ".join(map(str, study.images.shape))
    entity = MlflowDataset(
        name=f"{name}-{context}",
        digest=split.sha256[:DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"name": name, "split": context}),
        schema=json.dumps({"images": f"(N, {shape}) uint8", "labels": "(N,) uint8"}),
        profile=json.dumps(
            {"images": split.images, "sha256": split.sha256, "classes": study.images.class_names}
        ),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", context)])
