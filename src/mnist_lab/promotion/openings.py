"""The openings of sealed images, counted by their digest, whoever opened them and for which model.

Each is a tag of one experiment, named by the images and the purpose: two at once overwrite none, the
same purpose twice, as after an interruption, is one, and whatever runs or models are deleted, all stay.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, ViewType
from mlflow.exceptions import MlflowException

from mnist_lab.models import MISSING, read_tags, versions_named
from mnist_lab.tracking import TAG
from mnist_lab.tracking.pages import all_pages
from mnist_lab.tracking.runs import EXPERIMENT_PREFIX, find_runs

SEALED_DIGEST = f"{TAG}sealed_digest"  # of a version: the images that its model has met
_OPENING, _BEFORE = f"{TAG}opening.", f"{TAG}openings_before."
_FORMER = f"{TAG}test_openings"  # of runs and registered models: how earlier versions counted
_DIGITS = 16  # of a digest, in the name of a tag
_DEFAULT = "0"  # the experiment that every store has, unless somebody deleted it
_INSTEAD = f"{EXPERIMENT_PREFIX}openings"


def count_openings(client: MlflowClient, digest: str) -> int:
    """Count the openings of the sealed images of ``digest``."""
    tags = _find_keeper(client).tags
    prefix = f"{_OPENING}{digest[:_DIGITS]}."
    before = int(tags.get(f"{_BEFORE}{digest[:_DIGITS]}", 0))
    return before + len([key for key in tags if key.startswith(prefix)])


def count_openings_for(client: MlflowClient, name: str) -> int:
    """Count the openings of the images that the versions of a registered model have met.

    Before the first opening that is counted by images, by the count of earlier versions.
    """
    found = {version.tags.get(SEALED_DIGEST, "") for version in versions_named(client, name)} - {""}
    counted = sum(count_openings(client, digest) for digest in found)
    return counted or int(read_tags(client, name).get(_FORMER, 0))


def count_opening(client: MlflowClient, digest: str, purpose: str, *, dataset: str) -> int:
    """Count an opening; return how often these images were opened, with it.

    The same ``purpose`` is counted once. ``dataset`` is the name of the data, under which earlier
    versions counted.
    """
    keeper = _find_keeper(client)
    before = f"{_BEFORE}{digest[:_DIGITS]}"
    if before not in keeper.tags:
        client.set_experiment_tag(keeper.experiment_id, before, str(_count_former(client, dataset)))
    key = f"{_OPENING}{digest[:_DIGITS]}.{purpose}"
    if key not in keeper.tags:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        client.set_experiment_tag(keeper.experiment_id, key, now)
    return count_openings(client, digest)


def _find_keeper(client: MlflowClient) -> Experiment:
    """Find the experiment that has the counts."""
    try:
        found = client.get_experiment(_DEFAULT)
        if found.lifecycle_stage == LifecycleStage.ACTIVE:
            return found
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
    instead = client.get_experiment_by_name(_INSTEAD)
    return instead or client.get_experiment(client.create_experiment(_INSTEAD))


def _count_former(client: MlflowClient, dataset: str) -> int:
    prefix = f"{EXPERIMENT_PREFIX}{dataset}-"
    experiments = [
        each.experiment_id
        for each in all_pages(client.search_experiments, view_type=ViewType.ALL)
        if each.name.startswith(prefix)
    ]
    runs = find_runs(client, experiments, f"tags.`{_FORMER}` != ''") if experiments else []
    return sum(int(run.data.tags[_FORMER]) for run in runs)
