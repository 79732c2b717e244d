"""Write studies into MLflow: beside a sweep, and afterwards by ``sync``."""

from mnist_lab.publish.background import BackgroundWriter, Backlog
from mnist_lab.publish.connect import TrackerFactory, connect_mlflow, make_figure_process
from mnist_lab.publish.sync import SyncRow, find_difference, sync
from mnist_lab.publish.writer import TrackerWriter

__all__ = [
    "BackgroundWriter",
    "Backlog",
    "SyncRow",
    "TrackerFactory",
    "TrackerWriter",
    "connect_mlflow",
    "find_difference",
    "make_figure_process",
    "sync",
]
