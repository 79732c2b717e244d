"""The tags of runs, models and versions, by which MLflow is searched."""

from __future__ import annotations

from getpass import getuser

from mnist_lab.tracking.records import StudyRecord, TrialRecord
from mnist_lab.tracking.revision import git_commit

TAG = "mnist_lab."


def common_tags(study: StudyRecord) -> dict[str, str]:
    """Return the tags of every run of a study."""
    return {
        f"{TAG}study": study.name,
        f"{TAG}study_id": study.id,
        f"{TAG}space": study.space,
        f"{TAG}dataset_digest": study.dataset_digest,
    }


def study_tags(study: StudyRecord) -> dict[str, str]:
    """Return the tags by which a study's page is found."""
    return {f"{TAG}study_id": study.page, f"{TAG}level": "study"}


def stage_tags(study: StudyRecord, trial: TrialRecord) -> dict[str, str]:
    """Return the tags of a trial's part in its study."""
    stage = "confirm" if study.confirms else "search"
    replica = {} if trial.replica_of is None else {f"{TAG}replica_of": str(trial.replica_of)}
    return {f"{TAG}stage": stage, **replica}


def source_tags() -> dict[str, str]:
    """Return the tags of a run's user and code."""
    tags = {
        "mlflow.source.name": "mnist-lab",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    commit = git_commit()
    return {**tags, "mlflow.source.git.commit": commit} if commit else tags


def _user() -> str:
    try:
        return getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"
