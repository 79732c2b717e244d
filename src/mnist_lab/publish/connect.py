"""Connect a study to MLflow, and to the process that draws its figures."""

from __future__ import annotations

from collections.abc import Callable

from mnist_lab.execution import (
    FigureProcess,
    FigureSpec,
    TrialFiles,
)
from mnist_lab.settings import Settings
from mnist_lab.tracking import StudyRecord, Tracker

TrackerFactory = Callable[[Settings, StudyRecord], Tracker]


def connect_mlflow(settings: Settings, study: StudyRecord) -> Tracker:
    """The tracker of ``study`` in the MLflow store that ``settings`` name.

    Raises:
        ConfigurationError: the store is of another version.
        ServiceError: it does not answer.
    """
    # Imported late: it takes 3 s, in which the workers import TensorFlow.
    from mnist_lab.tracking.mlflow_tracker import MlflowTracker, experiment_name
    from mnist_lab.tracking.store import artifact_location, open_client

    experiment = experiment_name(study.dataset, study.family)
    return MlflowTracker(open_client(settings), artifact_location(settings, experiment))


def make_figure_process(
    settings: Settings, dataset: str, digest: str, files: TrialFiles
) -> FigureProcess:
    """The process that draws figures of trials on the data set ``dataset`` of this ``digest``."""
    spec = FigureSpec(
        dataset=dataset,
        digest=digest,
        data_folder=settings.data_folder,
        log=files.work / "artist.log",
    )
    return FigureProcess(spec)
