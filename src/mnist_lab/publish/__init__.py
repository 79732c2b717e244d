"""The records of studies written into MLflow: beside a sweep, and afterwards by ``sync``."""

from mnist_lab.publish.background import BackgroundWriter, Backlog
from mnist_lab.publish.connect import (
    FiguresFactory,
    TrackerFactory,
    connect_mlflow,
    make_figures,
    start_writer,
)
from mnist_lab.publish.sync import SyncRow, find_difference, sync

__all__ = [
    "BackgroundWriter",
    "Backlog",
    "FiguresFactory",
    "SyncRow",
    "TrackerFactory",
    "connect_mlflow",
    "find_difference",
    "make_figures",
    "start_writer",
    "sync",
]
