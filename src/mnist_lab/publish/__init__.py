"""The records of studies written into MLflow: beside a sweep, and afterwards by ``sync``."""

from mnist_lab.publish.background import BackgroundWriter, Backlog
from mnist_lab.publish.connect import (
    FiguresFactory,
    TrackerFactory,
    connect_mlflow,
    make_figures,
    start_writer,
)
from mnist_lab.publish.report import Origin, find_link, log_report, look_up, write_report
from mnist_lab.publish.sync import SyncRow, find_difference, sync

__all__ = [
    "BackgroundWriter",
    "Backlog",
    "FiguresFactory",
    "Origin",
    "SyncRow",
    "TrackerFactory",
    "connect_mlflow",
    "find_difference",
    "find_link",
    "log_report",
    "look_up",
    "make_figures",
    "start_writer",
    "sync",
    "write_report",
]
