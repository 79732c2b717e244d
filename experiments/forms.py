"""Fashion-MNIST in every form that ``--dataset`` takes: the sentence, and the best of a small sweep.

python experiments/forms.py [FOLDER_OF_IDX_FILES]; by default Debian's dataset-fashion-mnist. It prints
the table of docs/data.md. All forms hold the same 6,000 + 1,000 images; "content" must be one.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

from mnist_lab.config import SweepConfig
from mnist_lab.data import load_dataset
from mnist_lab.data.load import load_all
from mnist_lab.settings import Settings
from mnist_lab.sweep import launch
from mnist_lab.tracking import NullTracker

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
         "Ankle boot")  # fmt: skip
Arrays = dict[str, np.ndarray]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_npz(path: Path, images: Arrays) -> Path:
    np.savez(path / "keras.npz", **images)
    return path / "keras.npz"


def write_floats(path: Path, images: Arrays) -> Path:
    floats = {
        name: (each / 255).astype("f4")[..., None] if name[0] == "x" else np.eye(10)[each]
        for name, each in images.items()
    }
    np.savez(path / "floats.npz", **floats)
    return path / "floats.npz"


def write_medmnist(path: Path, images: Arrays) -> Path:
    parts = {"train": slice(5000), "val": slice(5000, None)}
    arrays = {f"{p}_images": images["x_train"][rows] for p, rows in parts.items()}
    arrays |= {f"{p}_labels": images["y_train"][rows, None] for p, rows in parts.items()}
    arrays |= {"test_images": images["x_test"], "test_labels": images["y_test"][:, None]}
    np.savez(path / "medmnist.npz", **arrays)
    return path / "medmnist.npz"


def write_kuzushiji(path: Path, images: Arrays) -> Path:
    for part in ("train", "test"):
        np.savez(path / f"kmnist-{part}-imgs", images[f"x_{part}"])
        np.savez(path / f"kmnist-{part}-labels", images[f"y_{part}"])
    return path


def write_idx(path: Path, images: Arrays) -> Path:
    for prefix, part in (("train", "train"), ("t10k", "test")):
        for kind, key in (("images-idx3", "x"), ("labels-idx1", "y")):
            array = images[f"{key}_{part}"]
            head = np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes()
            (path / f"{prefix}-{kind}-ubyte").write_bytes(head + array.tobytes())
    return path


def write_folder(path: Path, images: Arrays) -> Path:
    for part in ("train", "test"):
        for number, (x, y) in enumerate(zip(images[f"x_{part}"], images[f"y_{part}"], strict=True)):
            folder = path / part / NAMES[y].replace("/", "-")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.png").write_bytes(png(x))
    return path


def write_zip(path: Path, images: Arrays) -> Path:
    folder = write_folder(path / "folder", images)
    with zipfile.ZipFile(path / "pictures.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(path))
    return path / "pictures.zip"


def write_table(path: Path, images: Arrays) -> Path:
    for part in ("train", "test"):
        (path / part).mkdir()
        lines = ["file_name,label"]
        for number, (x, y) in enumerate(zip(images[f"x_{part}"], images[f"y_{part}"], strict=True)):
            (path / part / f"{number}.png").write_bytes(png(x))
            lines.append(f"{number}.png,{NAMES[y]}")
        (path / part / "metadata.csv").write_text("\n".join(lines))
    return path


def write_csv(path: Path, images: Arrays) -> Path:
    for part in ("train", "test"):
        table = pd.DataFrame(images[f"x_{part}"].reshape(-1, 784)).add_prefix("pixel")
        table.insert(0, "label", images[f"y_{part}"])
        table.to_csv(path / f"fashion_{part}.csv", index=False)
    return path


def write_parquet(path: Path, images: Arrays) -> Path:
    features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for part in ("train", "test"):
        pictures = [{"bytes": png(each), "path": None} for each in images[f"x_{part}"]]
        labels = images[f"y_{part}"].astype("i8")
        table = pa.table({"image": pa.array(pictures, kind), "label": labels})
        head = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(table.replace_schema_metadata(head), path / f"{part}-00000-of-00001.parquet")
    return path


def write_hdf5(path: Path, images: Arrays) -> Path:
    with h5py.File(path / "fashion.h5", "w") as file:
        file.update(images)
    return path / "fashion.h5"


def write_mat(path: Path, images: Arrays) -> Path:
    for part in ("train", "test"):
        x, y = images[f"x_{part}"], images[f"y_{part}"]
        colours = np.repeat(np.moveaxis(x, 0, 2)[:, :, None], 3, axis=2)
        savemat(path / f"{part}_32x32.mat", {"X": colours, "y": y[:, None]})
    return path


FORMS: dict[str, Callable[[Path, Arrays], Path]] = {
    "IDX files": write_idx,
    "`.npz`, Keras's keys": write_npz,
    "`.npz`, floats, one-hot": write_floats,
    "`.npz`, MedMNIST's keys": write_medmnist,
    "Kuzushiji's `.npz` files": write_kuzushiji,
    "folder of class folders": write_folder,
    "zip of it": write_zip,
    "folder with `metadata.csv`": write_table,
    "CSV": write_csv,
    "parquet": write_parquet,
    "HDF5": write_hdf5,
    "`.mat`, SVHN's layout": write_mat,
}


def main(source: str) -> None:
    whole = load_all(source, most_duplicates=1.0)
    images = {
        "x_train": whole.dataset.train.images[:6000], "y_train": whole.dataset.train.labels[:6000],
        "x_test": whole.test.images[:1000], "y_test": whole.test.labels[:1000],
    }  # fmt: skip
    print("| form | content | train, validate, sealed | how it is divided | best of 2 trials |")
    print("|---|---|---|---|--:|")
    for form, write in FORMS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder, home = Path(scratch, "data"), Path(scratch, "home")
            folder.mkdir()
            path, settings = write(folder, images), Settings(home=home)
            dataset = load_dataset(str(path), data_folder=settings.data_folder)
            config = SweepConfig(
                space="fnn", trials=2, epochs=3, dataset=str(path), executor="inline", study="forms"
            )
            best = launch(config, settings, make_tracker=lambda *_: NullTracker()).best
            sizes = len(dataset.train), len(dataset.validation), dataset.facts.test_images
            parts = ", ".join(f"{each:,}" for each in sizes)
            rule = (
                dataset.facts.sentence.split("sealed for the test")[1].strip("; .") or "its layout"
            )
            value = best.value if best and best.value else 0.0
            print(
                f"| {form} | `{dataset.facts.content[:8]}` | {parts} | {rule} | {value:.2%} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist")
