"""Data sets as frozen, read-only splits. The test split is not among them: see ``sealed.py``."""

from mnist_lab.data.arrays import Unusable, as_pixels
from mnist_lab.data.dataset import DIGIT, PICTURE, Dataset, DatasetFacts, ImageForm, Split
from mnist_lab.data.decoded import Progress
from mnist_lab.data.load import load_dataset
from mnist_lab.data.named import NAMES
from mnist_lab.data.parts import PARTS, VALIDATION_PART, leave_out, part_labels, part_split
from mnist_lab.data.pictures import UnreadablePicture, decode, fit
from mnist_lab.data.readers import read_images
from mnist_lab.data.shared import map_dataset, shared

__all__ = [
    "DIGIT",
    "NAMES",
    "PARTS",
    "PICTURE",
    "VALIDATION_PART",
    "Dataset",
    "DatasetFacts",
    "ImageForm",
    "Progress",
    "Split",
    "UnreadablePicture",
    "Unusable",
    "as_pixels",
    "decode",
    "fit",
    "leave_out",
    "load_dataset",
    "map_dataset",
    "part_labels",
    "part_split",
    "read_images",
    "shared",
]
