"""Every form of data set, written from the same real images, read as the same data."""

from __future__ import annotations

import io
import json
import shutil
import zipfile

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat

from mnist_lab.data import load_dataset
from mnist_lab.data.readers import READERS, RawPart, Source, find
from mnist_lab.data.readers.keys import pair_up, part_of
from mnist_lab.data.sealed import find_test_split
from mnist_lab.errors import DataError

NAMES = ("nought", "one", "two")


@pytest.fixture(scope="module")
def images(small_file):
    """120 training and 27 test images of three digits: x_train, y_train, x_test, y_test."""
    found = {}
    with np.load(small_file) as whole:
        for part, count in (("train", 40), ("test", 9)):
            x, y = whole[f"x_{part}"], whole[f"y_{part}"]
            rows = np.sort(np.concatenate([np.flatnonzero(y == each)[:count] for each in range(3)]))
            found |= {f"x_{part}": x[rows], f"y_{part}": y[rows]}
    return found


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def rows(images):
    for part in ("train", "test"):
        for number, (x, y) in enumerate(zip(images[f"x_{part}"], images[f"y_{part}"], strict=True)):
            yield part, number, x, int(y)


def write_npz(path, images):
    np.savez(path / "a.npz", **images)
    return path / "a.npz"


def write_floats(path, images):
    floats = {
        k: (v / 255).astype("f4")[..., None] if k[0] == "x" else np.eye(3)[v]
        for k, v in images.items()
    }
    np.savez(path / "a.npz", **floats)
    return path / "a.npz"


def write_rows(path, images):
    flat = {
        k: v.reshape(len(v), -1).astype(float) if k[0] == "x" else v[:, None]
        for k, v in images.items()
    }
    np.savez(path / "a.npz", **flat)
    return path / "a.npz"


def write_kuzushiji(path, images):
    for key, name in (("x", "imgs"), ("y", "labels")):
        for part in ("train", "test"):
            np.savez(path / f"kmnist-{part}-{name}", images[f"{key}_{part}"])
    return path / "kmnist-train-imgs.npz"


def write_npy(path, images):
    for name, array in images.items():
        np.save(path / name, array)
    return path / "x_train.npy"


def write_folder(path, images):
    for part, number, x, y in rows(images):
        folder = path / "pictures" / part / NAMES[y]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(x))
    return path / "pictures"


def write_zip(path, images):
    with zipfile.ZipFile(path / "a.zip", "w") as archive:
        for part, number, x, y in rows(images):
            archive.writestr(f"wrapped/{part}/{NAMES[y]}/{number}.png", png(x))
        archive.writestr("__MACOSX/wrapped/._x.png", b"")
    return path / "a.zip"


def write_table(path, images):
    lines = {"train": ["file_name,label"], "test": ["file_name,label"]}
    for part, number, x, y in rows(images):
        (path / part).mkdir(exist_ok=True)
        (path / part / f"{number}.png").write_bytes(png(x))
        lines[part].append(f"{number}.png,{NAMES[y]}")
    for part, each in lines.items():
        (path / part / "metadata.csv").write_text("\n".join(each))
    return path


def _frame(images, part):
    frame = pd.DataFrame(images[f"x_{part}"].reshape(-1, 784))
    frame.columns = [f"pixel{each}" for each in frame.columns]
    frame.insert(0, "label", images[f"y_{part}"])
    return frame


def write_csv(path, images):
    for part in ("train", "test"):
        _frame(images, part).to_csv(path / f"digits_{part}.csv", index=False)
    return path


def write_csv_without_a_head(path, images):
    for part in ("train", "test"):
        _frame(images, part).to_csv(path / f"digits_{part}.csv", index=False, header=False)
    return path


def write_parquet(path, images):
    features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    head = {"huggingface": json.dumps({"info": {"features": features}})}
    for part in ("train", "test"):
        pictures = [{"bytes": png(each), "path": None} for each in images[f"x_{part}"]]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table(
            {"image": pa.array(pictures, kind), "label": images[f"y_{part}"].astype("i8")}
        )
        pq.write_table(table.replace_schema_metadata(head), path / f"{part}-00000-of-00001.parquet")
    return path


def write_hdf5(path, images):
    with h5py.File(path / "a.h5", "w") as file:
        for name, array in images.items():
            kind, part = name.split("_")
            file[f"{part}/{'images' if kind == 'x' else 'labels'}"] = array
    return path / "a.h5"


def write_svhn(path, images):
    for part in ("train", "test"):
        x, y = images[f"x_{part}"], images[f"y_{part}"]
        colours = np.repeat(np.moveaxis(x, 0, 2)[:, :, None], 3, axis=2)
        savemat(path / f"{part}_32x32.mat", {"X": colours, "y": y[:, None]})
    return path


WRITERS = [
    write_npz, write_floats, write_rows, write_kuzushiji, write_npy, write_folder, write_zip,
    write_table, write_csv, write_csv_without_a_head, write_parquet, write_hdf5, write_svhn,
]  # fmt: skip


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory):
    return load_dataset(str(write_npz(tmp_path_factory.mktemp("expected"), images)))


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_the_same_images_are_the_same_data_in_every_form(write, images, expected, tmp_path):
    found = load_dataset(str(write(tmp_path, images)), data_folder=tmp_path / "cache")
    assert found.facts.content == expected.facts.content
    assert found.form.shape == (28, 28)
    assert found.facts.test_images == 27


@pytest.mark.parametrize("write", [write_folder, write_zip, write_table, write_parquet])
def test_the_names_of_classes_are_kept(write, images, tmp_path):
    found = load_dataset(str(write(tmp_path, images)), data_folder=tmp_path / "cache")
    assert found.form.class_names == NAMES
    assert "3 classes (nought 49, one 49, two 49)" in found.facts.sentence


def test_pictures_are_decoded_once(images, tmp_path, monkeypatch):
    folder, decoded = write_folder(tmp_path, images), []
    load_dataset(str(folder), data_folder=tmp_path, progress=lambda *_: decoded.append(1))
    again = load_dataset(str(folder), data_folder=tmp_path, progress=lambda *_: decoded.append(1))
    assert len(decoded) == 147
    (folder / "train" / "one" / "new.png").write_bytes(png(images["x_train"][0][::-1]))
    more = load_dataset(str(folder), data_folder=tmp_path, progress=lambda *_: decoded.append(1))
    assert len(decoded) == 147 + 148
    assert more.facts.content != again.facts.content


def test_a_few_unreadable_pictures_are_left_out_and_said(images, tmp_path):
    folder = write_folder(tmp_path, images)
    (folder / "train" / "one" / "torn.png").write_bytes(png(images["x_train"][0])[:60])
    found = load_dataset(str(folder), data_folder=tmp_path)
    assert "1 unreadable picture left out" in found.facts.sentence


def test_many_unreadable_pictures_are_refused_by_name(images, tmp_path):
    folder = write_folder(tmp_path, images)
    for number in range(3):
        (folder / "train" / "one" / f"torn{number}.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"3 of 150 pictures unreadable .*torn0.png"):
        load_dataset(str(folder), data_folder=tmp_path)


def test_pictures_of_several_sizes_are_padded_to_one(tmp_path):
    random = np.random.default_rng(0)
    for number in range(48):
        folder = tmp_path / "faces" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        shape = (20 + number, 60 - number // 2, 3)
        (folder / f"{number}.png").write_bytes(png(random.integers(0, 256, shape, np.uint8)))
    found = load_dataset(str(tmp_path / "faces"), data_folder=tmp_path)
    assert found.form.shape == (32, 32, 3)
    assert (
        "colour images of 32x32; pictures of 20 to 67 pixels, resized to 32x32 by padding"
        in found.facts.sentence
    )
    larger = load_dataset(str(tmp_path / "faces"), image_size=48, data_folder=tmp_path)
    assert larger.form.shape == (48, 48, 3)


def test_pictures_in_no_folder_of_a_class_are_refused_with_what_would_do(images, tmp_path):
    (tmp_path / "a.png").write_bytes(png(images["x_train"][0]))
    with pytest.raises(DataError, match=r"a folder for each class, or a metadata\.csv"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png"])
def test_a_table_whose_paths_leave_the_folder_is_refused(images, tmp_path, name):
    folder = write_table(tmp_path, images)
    (folder / "train" / "metadata.csv").write_text(f"file_name,label\n{name},one\n")
    with pytest.raises(DataError, match="leaves the folder"):
        load_dataset(str(folder))


def test_one_grey_part_does_not_make_colour_pictures_grey(tmp_path):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    grey = np.repeat(random.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8), 3, axis=3)
    np.savez(
        tmp_path / "a.npz",
        x_train=x,
        y_train=np.arange(60) % 2,
        x_test=grey,
        y_test=np.arange(12) % 2,
    )
    assert load_dataset(str(tmp_path / "a.npz")).form.shape == (8, 8, 3)


def test_a_zip_without_pictures_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing else")
    with pytest.raises(DataError, match="found no pictures"):
        load_dataset(str(tmp_path / "odd.zip"))


def test_a_folder_of_test_pictures_alone_is_refused(images, tmp_path):
    folder = write_folder(tmp_path, images)
    shutil.rmtree(folder / "train")
    with pytest.raises(DataError, match="no images to train on, only test"):
        load_dataset(str(folder))


def test_a_pickle_is_refused_by_name_and_not_read(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(
        DataError, match=r"is a Python pickle, which can run code.*cifar-10-batches-bin"
    ):
        load_dataset(str(tmp_path))


def test_cifars_binary_version_is_read(tmp_path):
    random = np.random.default_rng(0)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        records = random.integers(0, 256, (60, 3073), np.uint8)
        records[:, 0] = np.arange(60) % 2
        records.tofile(tmp_path / name)
    (tmp_path / "batches.meta.txt").write_text("airplane\nbird\n")
    found = load_dataset(str(tmp_path))
    assert (found.form.shape, found.form.class_names) == ((32, 32, 3), ("airplane", "bird"))


def test_emnists_letters_are_turned_and_named(images, tmp_path):
    for part, x, y in (
        ("train", images["x_train"], images["y_train"]),
        ("test", images["x_test"], images["y_test"]),
    ):
        for kind, array in (("images-idx3", x.transpose(0, 2, 1)), ("labels-idx1", y + 1)):
            head = np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes()
            (tmp_path / f"emnist-letters-{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    found = load_dataset(str(tmp_path))
    assert found.form.class_names == ("A", "B", "C")
    assert np.array_equal(
        np.sort(found.train.images, axis=0), np.sort(images["x_train"][:100], axis=0)
    )


def test_an_hdf5_link_to_another_file_is_refused(images, tmp_path):
    write_hdf5(tmp_path, images)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x_train"] = h5py.ExternalLink("a.h5", "train/images")
    with pytest.raises(DataError, match="a link to another file"):
        load_dataset(str(tmp_path / "b.h5"))


def test_scikit_learns_digits_are_known_by_name(tmp_path):
    found = load_dataset("digits", data_folder=tmp_path)
    assert (found.form.shape, found.classes) == ((8, 8), 10)
    assert len(found.train) + len(found.validation) + found.facts.test_images == 1797
    assert found.train.images.max() == 255


def test_a_package_can_add_a_reader(images, tmp_path, monkeypatch):
    class Own:
        name = "an own form"

        def matches(self, path):
            return path.suffix == ".own"

        def read(self, path):
            parts = {
                p: RawPart(images=images[f"x_{p}"], labels=images[f"y_{p}"])
                for p in ("train", "test")
            }
            return Source(parts=parts)

    class Entry:
        def load(self):
            return Own()

    find._added.cache_clear()
    monkeypatch.setattr(
        find, "entry_points", lambda group: [Entry()] if group == "mnist_lab.readers" else []
    )
    (tmp_path / "a.own").write_text("")
    assert load_dataset(str(tmp_path / "a.own")).classes == 3
    find._added.cache_clear()


def test_every_reader_has_a_name():
    assert all(reader.name for reader in READERS)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["x_train", "y_train"], {"train": ("x_train", "y_train")}),
        (["trainImages", "trainLabels"], {"train": ("trainImages", "trainLabels")}),
        (["X", "y"], {"train": ("X", "y")}),
        (
            ["train_images", "train_labels", "val_images", "val_labels"],
            {"train": ("train_images", "train_labels"), "validation": ("val_images", "val_labels")},
        ),
    ],
)
def test_arrays_are_paired_by_their_names(names, pairs):
    assert pair_up(names) == pairs


def test_a_name_of_two_parts_says_none():
    assert part_of("train_test_split") is None
    assert part_of("t10k-images") == "test"


def test_test_images_that_are_carved_out_stay_sealed(images, tmp_path):
    np.savez(tmp_path / "a.npz", x=images["x_train"], y=images["y_train"])
    found, test = (
        load_dataset(str(tmp_path / "a.npz")),
        find_test_split(str(tmp_path / "a.npz")).open(),
    )
    seen = {each.tobytes() for each in (*found.train.images, *found.validation.images)}
    assert len(test) == found.facts.test_images == 18
    assert not any(each.tobytes() in seen for each in test.images)
    assert "no test images: 1/6 sealed" in found.facts.sentence
