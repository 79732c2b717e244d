"""Names of experiments, and runs found page by page."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import (
    Run,
)

from mnist_lab.tracking.pages import all_pages

EXPERIMENT_PREFIX = "mnist-lab/"
RUNS_A_PAGE = 1000


def find_runs(client: MlflowClient, experiments: Sequence[str], condition: str) -> list[Run]:
    """Find every run that fulfils ``condition``, oldest first."""
    return all_pages(
        client.search_runs,
        list(experiments),
        condition,
        max_results=RUNS_A_PAGE,
        order_by=["attributes.start_time ASC"],
    )


def experiment_name(dataset: str, family: str) -> str:
    """Return MLflow's experiment of a family on a data set, e.g. ``mnist-lab/mnist-cnn``.

    ``mnist-lab/mnist-cnn``.
    """
    return f"{EXPERIMENT_PREFIX}{dataset}-{family}"
