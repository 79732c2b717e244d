"""Data sets as frozen, read-only splits. The test split is not among them: see ``sealed.py``."""

from mnist_lab.data.dataset import CLASSES, IMAGE_SHAPE, Dataset, Split
from mnist_lab.data.files import read_images
from mnist_lab.data.load import has_test_images, load_dataset
from mnist_lab.data.shared import map_dataset, shared

__all__ = [
    "CLASSES",
    "IMAGE_SHAPE",
    "Dataset",
    "Split",
    "has_test_images",
    "load_dataset",
    "map_dataset",
    "read_images",
    "shared",
]
