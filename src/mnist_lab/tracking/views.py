"""Saved views of MLflow's pages: a link to one opens the study's trials, sorted, with its charts.

A view is a tag of the experiment, in a private format of MLflow 3.17, found by saving views in its
pages. A tag that another version does not read leaves its pages as they are. A test opens it in a
browser.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mnist_lab.config import OBJECTIVES
from mnist_lab.tracking.names import safe_name
from mnist_lab.tracking.records import StudyRecord, StudySummary
from mnist_lab.tracking.runs import experiment_name, find_runs
from mnist_lab.tracking.tags import TAG, study_tags

REPORT_FILE = "report.html"  # an artifact of the study's run
VIEW_TAG = "mlflow.sharedViewState."
_PREFIX = "mnist-lab-"
MOST_PARAMS, MOST_AXES = 8, 4
_SECTION = "mnist-lab"
# Leaves the layout for LLM applications, which MLflow 3 may open with.
_LAYOUT = "workflowType=machine_learning"


def save_view(
    client: MlflowClient,
    experiment: str,
    study: StudyRecord,
    run: str,
    summary: StudySummary | None = None,
) -> None:
    """Save the view of a study as a tag of its experiment; a server that refuses it costs nothing.

    A view that is there is only written again with the study's ``summary``.
    """
    if study.confirms:
        return
    tag = view_tag(study.id)
    with suppress(MlflowException):
        if summary is not None or tag not in client.get_experiment(experiment).tags:
            began = client.get_run(run).info.start_time
            client.set_experiment_tag(experiment, tag, make_view(study, run, summary, began))


def describe_links(experiment: str, study: StudyRecord, run: str, summary: StudySummary) -> str:
    """Return the links of a study's page as markdown: views, report, the runs of the summary."""
    links = {
        "all trials": view_address(experiment, study.page),
        "charts": view_address(experiment, study.page, charts=True),
        "report": run_address(experiment, run, REPORT_FILE),
        **{words: run_address(experiment, each) for words, each in summary.links.items()},
    }
    if summary.champion:
        links[f"champion {summary.champion}"] = model_address(summary.champion)
    return "Links: " + ", ".join(f"[{words}]({link})" for words, link in links.items()) + "."


def view_tag(study_id: str) -> str:
    """Return the name of the experiment's tag that holds the view of a study."""
    return f"{VIEW_TAG}{_PREFIX}{study_id}"


def study_of(tag: str) -> str | None:
    """Return the id of the study whose view the tag holds; None for any other tag."""
    prefix = VIEW_TAG + _PREFIX
    return tag.removeprefix(prefix) if tag.startswith(prefix) else None


def make_view(study: StudyRecord, run: str, summary: StudySummary | None, stamp: int) -> str:
    """Return the value of the tag: trials of the study's ``run``, best first, and charts of them.

    The parameters that the summary shows are columns and axes; ``stamp`` is in milliseconds.
    """
    params = [safe_name(each) for each in summary.shown] if summary is not None else []
    curves = summary.curves if summary is not None else None
    state = json.dumps(_state(study, run, params, curves))
    packed = base64.b64encode(zlib.compress(state.encode())).decode()
    view = {
        "name": study.name,
        "createdAt": stamp,
        "updatedAt": stamp,
        "state": f"deflate;{packed}",
    }
    return json.dumps(view)


def find_address(client: MlflowClient, study: StudyRecord, *, charts: bool = False) -> str:
    """Return the address of the study's view within MLflow's pages, from ``#`` on; empty if none.

    Studies of earlier versions get their view here.
    """
    experiment = client.get_experiment_by_name(experiment_name(study.dataset, study.family))
    if experiment is None:
        return ""
    if view_tag(study.page) not in experiment.tags:
        condition = " and ".join(f"tags.`{k}` = '{v}'" for k, v in study_tags(study).items())
        runs = find_runs(client, [experiment.experiment_id], condition)
        if not runs:
            return ""
        save_view(client, experiment.experiment_id, study, runs[0].info.run_id)
    return view_address(str(experiment.experiment_id), study.page, charts=charts)


def view_address(experiment: str, study_id: str, *, charts: bool = False) -> str:
    """Return the address of a view, from ``#`` on."""
    mode = "&compareRunsMode=CHART" if charts else ""
    view = f"{_PREFIX}{study_id}"
    return f"#/experiments/{experiment}/runs?viewStateShareKey={view}&{_LAYOUT}{mode}"


def run_address(experiment: str, run: str, artifact: str = "") -> str:
    """Return the address of a run, or of one of its artifacts."""
    tail = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{experiment}/runs/{run}{tail}?{_LAYOUT}"


def model_address(version: str) -> str:
    """Return the address of a registered model's version, MODEL/VERSION."""
    name, _, number = version.rpartition("/")
    return f"#/models/{name}/versions/{number}"


def find_champion(client: MlflowClient, study: StudyRecord) -> str:
    """Return the champion that comes of ``study``, as MODEL/VERSION; empty if none does."""
    found = client.search_model_versions(f"tags.`{TAG}study_id` = '{study.page}'")
    for version in found:
        aliases = client.get_registered_model(version.name).aliases
        if str(aliases.get("champion", "")) == str(version.version):
            return f"{version.name}/{version.version}"
    return ""


def _state(
    study: StudyRecord, run: str, params: Sequence[str], curves: tuple[float, float] | None
) -> dict[str, Any]:
    best = safe_name(f"best_{study.objective}")
    metrics = dict.fromkeys((best, "best_val_accuracy", "val_cross_entropy", "parameters"))
    level = f"tags.`{TAG}level` = 'trial'"
    return {
        "searchFilter": f"tags.mlflow.parentRunId = '{run}' and {level}",
        "orderByKey": f"metrics.`{best}`",
        "orderByAsc": not OBJECTIVES[study.objective],
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "runsHiddenMode": "SHOW_ALL",  # else only the first ten runs are drawn
        "selectedColumns": [
            "attributes.`Duration`",
            *(f"metrics.`{name}`" for name in metrics),
            *(f"params.`{name}`" for name in params[:MOST_PARAMS]),
        ],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "compareRunSections": [
            {
                "uuid": _SECTION,
                "name": study.name,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
                "columns": 2,
                "cardHeight": 360,
            }
        ],
        "compareRunCharts": _charts(study, best, params, curves),
    }


def _charts(
    study: StudyRecord, best: str, params: Sequence[str], curves: tuple[float, float] | None
) -> list[dict[str, Any]]:
    curve = safe_name(study.objective)
    charts = [
        _chart(
            "curves",
            "LINE",
            metricKey=curve,
            selectedMetricKeys=[curve],
            xAxisKey="step",
            selectedXAxisMetricKey="",
            xAxisScaleType="linear",
            scaleType="linear",
            lineSmoothness=0,
            range={"yMin": curves[0], "yMax": curves[1]} if curves else {},
        ),
        _chart(
            "size",
            "SCATTER",
            xaxis={"key": "parameters", "type": "METRIC", "index": 0},
            yaxis={"key": best, "type": "METRIC", "index": 0},
        ),
    ]
    if params:
        charts.insert(
            1,
            _chart(
                "parallel",
                "PARALLEL",
                selectedParams=list(params[:MOST_AXES]),
                selectedMetrics=[best],
                showAllRuns=True,
            ),
        )
    return charts


def _chart(name: str, kind: str, **facts: Any) -> dict[str, Any]:
    common: Mapping[str, Any] = {
        "uuid": f"{_SECTION}-{name}",
        "type": kind,
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 100,
    }
    return {**common, **facts}
