"""Write studies into MLflow: beside a sweep, and afterwards by ``sync``."""

from mnist_lab.publish.background import Lag, Projector
from mnist_lab.publish.connect import TrackerFactory, connect_mlflow, make_artist
from mnist_lab.publish.sync import SyncRow, find_gap, sync
from mnist_lab.publish.writer import Projection

__all__ = [
    "Lag",
    "Projection",
    "Projector",
    "SyncRow",
    "TrackerFactory",
    "connect_mlflow",
    "find_gap",
    "make_artist",
    "sync",
]
