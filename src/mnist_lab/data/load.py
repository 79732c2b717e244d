"""Loading a ``Dataset`` by its name or path."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from mnist_lab.data.dataset import Dataset, divide
from mnist_lab.data.files import WAYS, has_part, read_part
from mnist_lab.errors import DataError
from mnist_lab.settings import Settings

BUNDLED = "mnist"
DOWNLOADABLE = ("fashion_mnist",)

# sha256 digests (``dataset.make_split``) of the bundled MNIST: a flipped bit in it is refused.
BUNDLED_DIGESTS = {
    "train": "0e7dbe9434c81792b843d97fe34b43a29dc1a31a6ee4540cdb1c76617567ef5f",
    "validation": "96256845e9f57411a8d0552634a250a7445d547185f4fd6914a9c6b80e46e608",
}


def load_dataset(name_or_path: str = BUNDLED, *, data_folder: Path | None = None) -> Dataset:
    """Load the training and validation splits of a data set; the test images are not read.

    Args:
        name_or_path: ``mnist`` (bundled), ``fashion_mnist`` (through ``keras.datasets``, kept in
            ``data_folder``), an ``.npz`` file, or a folder of IDX files.
        data_folder: where downloads are kept; that of ``Settings`` by default.

    Raises:
        DataError: it is not there, is damaged, or is not 28x28 grey images in 10 classes.
    """
    path = locate(name_or_path, data_folder=data_folder)
    train, validation = divide(*read_part(path, "train"))
    if name_or_path == BUNDLED:
        found = {"train": train.digest, "validation": validation.digest}
        if found != BUNDLED_DIGESTS:
            raise DataError(
                f"{path} is damaged: its digests are {found}, expected {BUNDLED_DIGESTS}.",
                safe="Nothing was trained.",
                next_step="Install mnist-lab again.",
            )
    named = name_or_path in (BUNDLED, *DOWNLOADABLE)
    return Dataset(
        name=name_or_path if named else _name_of(path),
        source=name_or_path if named else str(path),
        train=train,
        validation=validation,
    )


def has_test_images(name_or_path: str = BUNDLED, *, data_folder: Path | None = None) -> bool:
    """Return whether a data set has test images, without reading or downloading it.

    Raises:
        DataError: there is no such data set.
    """
    if name_or_path in (BUNDLED, *DOWNLOADABLE):
        return True
    return has_part(locate(name_or_path, data_folder=data_folder), "test")


def _name_of(path: Path) -> str:
    """Name a data set after its file, in characters that studies and MLflow's models may have."""
    return re.sub(r"[^\w-]+", "-", path.stem).strip("-_") or "data"


def locate(name_or_path: str, *, data_folder: Path | None = None) -> Path:
    """Return the absolute path of a data set, downloading a known name that is not there yet."""
    if name_or_path == BUNDLED:
        return Path(str(files("mnist_lab.data") / "mnist.npz"))
    if name_or_path in DOWNLOADABLE:
        kept = (data_folder or Settings().data_folder).resolve() / f"{name_or_path}.npz"
        return kept if kept.exists() else _download(name_or_path, kept)
    path = Path(name_or_path).expanduser().resolve()
    if not path.exists():
        raise DataError(
            f"There is no data set {name_or_path!r}: not a known name "
            f"({', '.join((BUNDLED, *DOWNLOADABLE))}) and no such file or folder.",
            safe="Nothing was trained.",
            next_step=WAYS,
        )
    return path


def _download(name: str, kept: Path) -> Path:
    # In a process of its own, because only ``keras.datasets`` knows the address and this one must
    # not import Keras.
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lab.data.download", name, str(kept)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(
            f"The data set {name!r} is not in {kept.parent} and could not be downloaded: {reason}",
            safe="Nothing was trained.",
            next_step=f"Put it there as {kept.name}, or give --dataset a folder of its IDX files.",
        )
    return kept
