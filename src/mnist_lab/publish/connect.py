"""The connection of a study to MLflow, and to the process that draws its figures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from mnist_lab.errors import ServiceError
from mnist_lab.execution import FigureProcess, FigureSpec, TrialFiles
from mnist_lab.publish.background import BackgroundWriter
from mnist_lab.publish.writer import Figures, TrackerWriter
from mnist_lab.settings import Settings
from mnist_lab.study import find_dataset
from mnist_lab.tracking import StudyRecord, Tracker

TrackerFactory = Callable[[Settings, StudyRecord], Tracker]
FiguresFactory = Callable[[Settings, StudyRecord, TrialFiles], Figures]


def connect_mlflow(settings: Settings, study: StudyRecord) -> Tracker:
    """Open the tracker of ``study`` in the MLflow store that ``settings`` name.

    Raises:
        ConfigurationError: the store is of another version.
        ServiceError: it does not answer.
    """
    # Imported late: it takes 3 s, in which the workers import TensorFlow.
    from mnist_lab.tracking.mlflow_tracker import MlflowTracker
    from mnist_lab.tracking.runs import experiment_name
    from mnist_lab.tracking.store import artifact_location, open_client

    experiment = experiment_name(study.dataset, study.family)
    return MlflowTracker(open_client(settings), artifact_location(settings, experiment))


def make_figures(settings: Settings, study: StudyRecord, files: TrialFiles) -> FigureProcess:
    """Make the process that draws the figures of ``study``; it starts at the first of them."""
    spec = FigureSpec(
        dataset=find_dataset(study, settings) or study.dataset_source,
        image_size=study.image_size,
        digest=study.dataset_digest,
        data_folder=settings.data_folder,
        log=files.work / "figures.log",
    )
    return FigureProcess(spec)


def start_writer(
    settings: Settings,
    study: StudyRecord,
    files: TrialFiles,
    figures: Figures,
    make_tracker: TrackerFactory,
) -> BackgroundWriter:
    """Start writing ``study`` to its tracker, in a thread.

    A database on this machine is opened now, and refused before anything is trained if it does not
    fit; a server may come later.
    """
    first = list[Tracker]()
    if settings.tracks_locally:
        with suppress(ServiceError):  # another process has locked it: the thread tries again
            first.append(make_tracker(settings, study))
    writer = TrackerWriter(
        study,
        lambda: first.pop() if first else make_tracker(settings, study),
        files,
        figures=figures,
    )
    background = BackgroundWriter(writer, reached=bool(first), local=settings.tracks_locally)
    background.start()
    return background
