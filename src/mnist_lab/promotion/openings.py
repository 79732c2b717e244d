"""The openings of sealed images, counted by their digest, whoever opened them and for which model.

Each is a tag of the experiment that it was done in, so two at once do not overwrite each other, and
the same purpose twice, as after an interruption, is one.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, ViewType
from mlflow.exceptions import MlflowException

from mnist_lab.models import is_writable, versions_of
from mnist_lab.tracking import TAG
from mnist_lab.tracking.pages import all_pages
from mnist_lab.tracking.runs import find_runs

OPENINGS = f"{TAG}test_openings"  # of a run, a version and a registered model
_OPENING, _BEFORE = f"{TAG}opening.", f"{TAG}openings_before"
_DIGITS = 16  # of a digest, in the name of a tag
_DEFAULT_EXPERIMENT = "0"  # every store has it


def count_openings_of(client: MlflowClient, digest: str) -> int:
    """Count the openings of the sealed images of ``digest``, those of deleted experiments included."""
    found = all_pages(client.search_experiments, view_type=ViewType.ALL)
    prefix = f"{_OPENING}{digest[:_DIGITS]}."
    return sum(
        sum(key.startswith(prefix) for key in each.tags) + int(each.tags.get(_BEFORE, 0))
        for each in found
        if any(key.startswith(prefix) for key in each.tags)
    )


def count_opening(
    client: MlflowClient, run: str, digest: str, purpose: str, *, is_own: bool = True
) -> int:
    """Count an opening for the model of ``run``; return how often these images were opened, with it.

    The same ``purpose`` is counted once. The run may be gone. ``is_own``: the images are those of its
    study, and are counted on its versions, too.
    """
    experiment = _find_experiment(client, run)
    key = f"{_OPENING}{digest[:_DIGITS]}.{purpose}"
    tags = client.get_experiment(experiment).tags
    if key not in tags:
        if not any(each.startswith(_OPENING) for each in tags):
            # Earlier versions counted on the runs.
            before = find_runs(client, [experiment], f"tags.`{OPENINGS}` != ''")
            total = sum(int(each.data.tags[OPENINGS]) for each in before)
            client.set_experiment_tag(experiment, _BEFORE, str(total))
        client.set_experiment_tag(experiment, key, datetime.now(UTC).isoformat(timespec="seconds"))
        if is_own:
            count_for_model(client, run)
    # Experiments can be deleted for good, with their tags; then the versions still have theirs.
    versions = versions_of(client, run) if is_own else []
    on_versions = [int(each.tags.get(OPENINGS, 0)) for each in versions]
    return max([count_openings_of(client, digest), *on_versions])


def _find_experiment(client: MlflowClient, run: str) -> str:
    try:
        experiment = client.get_experiment(client.get_run(run).info.experiment_id)
    except MlflowException:
        return _DEFAULT_EXPERIMENT
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        return _DEFAULT_EXPERIMENT
    return str(experiment.experiment_id)


def count_for_model(client: MlflowClient, run: str) -> None:
    """Count one more on the run, on the versions made of it, and on their registered models."""
    versions, writable = versions_of(client, run), is_writable(client, run)
    counted = [version.tags for version in versions]
    counted += [client.get_run(run).data.tags] if writable else []
    openings = max((int(tags.get(OPENINGS, 0)) for tags in counted), default=0) + 1
    if writable:
        client.set_tag(run, OPENINGS, str(openings))
    for version in versions:
        # Those before it was registered, too; a version that is deleted takes none of the sum along.
        new = openings - int(version.tags.get(OPENINGS, 0))
        total = int(client.get_registered_model(version.name).tags.get(OPENINGS, 0)) + new
        client.set_registered_model_tag(version.name, OPENINGS, str(total))
        client.set_model_version_tag(version.name, version.version, OPENINGS, str(openings))
