from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from mnist_lab.data import load_dataset
from mnist_lab.data.load import BUNDLED_DIGESTS, locate
from mnist_lab.data.sealed import find_test_split
from mnist_lab.errors import DataError


@pytest.fixture(scope="module")
def mnist():
    return load_dataset("mnist")


def arrays(train=60, test=12):
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (train, 28, 28), dtype=np.uint8),
        "y_train": (np.arange(train) % 10).astype(np.uint8),
        "x_test": rng.integers(0, 256, (test, 28, 28), dtype=np.uint8),
        "y_test": (np.arange(test) % 10).astype(np.uint8),
    }


def write_npz(path, **changes):
    np.savez(path, **{**arrays(), **changes})
    return str(path)


def write_idx(folder, *, zipped):
    folder.mkdir()
    opener = gzip.open if zipped else open
    ending = ".gz" if zipped else ""
    for prefix, part in (("train", "train"), ("t10k", "test")):
        for kind, key, dims in (("images", "x", 3), ("labels", "y", 1)):
            values = arrays()[f"{key}_{part}"]
            with opener(folder / f"{prefix}-{kind}-idx{dims}-ubyte{ending}", "wb") as file:
                file.write(struct.pack(f">{1 + dims}I", 0x0800 + dims, *values.shape))
                file.write(values.tobytes())
    return folder


def test_mnist_has_fifty_thousand_images_to_train_and_ten_thousand_to_validate(mnist):
    assert (len(mnist.train), len(mnist.validation)) == (50_000, 10_000)
    assert mnist.train.images.shape == (50_000, 28, 28)
    assert mnist.train.images.dtype == mnist.train.labels.dtype == np.uint8


def test_the_splits_are_the_first_and_the_last_images_of_the_file(mnist):
    with np.load(locate("mnist")) as whole:
        assert np.array_equal(mnist.train.images, whole["x_train"][:50_000])
        assert np.array_equal(mnist.validation.images, whole["x_train"][50_000:])


def test_no_validation_image_is_a_training_image(mnist):
    seen = {image.tobytes() for image in mnist.train.images}
    assert not any(image.tobytes() in seen for image in mnist.validation.images)


def test_the_class_counts_are_the_notebooks(mnist):
    labels = np.concatenate([mnist.train.labels, mnist.validation.labels])
    assert np.bincount(labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip


def test_the_arrays_cannot_be_written(mnist):
    with pytest.raises(ValueError, match="read-only"):
        mnist.train.images[0, 0, 0] = 1


def test_a_data_set_offers_no_test_images(mnist):
    assert not [name for name in vars(mnist) if "test" in name]


def test_the_digests_are_those_of_the_bundled_file(mnist):
    assert mnist.train.digest == BUNDLED_DIGESTS["train"]
    assert mnist.validation.digest == BUNDLED_DIGESTS["validation"]


def test_the_sealed_images_of_mnist_are_ten_thousand():
    assert len(find_test_split("mnist").open()) == 10_000


def test_a_bundled_file_with_one_flipped_bit_is_refused(tmp_path, monkeypatch):
    with np.load(locate("mnist")) as whole:
        content = {key: whole[key].copy() for key in whole.files}
    content["x_train"][123, 4, 5] ^= 1
    content["x_test"][1, 2, 3] ^= 1
    np.savez(tmp_path / "mnist.npz", **content)
    monkeypatch.setattr("mnist_lab.data.named.files", lambda _: tmp_path)
    with pytest.raises(DataError, match="is damaged"):
        load_dataset("mnist")
    with pytest.raises(DataError, match="is damaged"):
        find_test_split("mnist").open()


def test_an_npz_is_known_by_its_name_and_absolute_path(tmp_path, monkeypatch):
    write_npz(tmp_path / "letters.v2.npz")
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset("letters.v2.npz")
    assert dataset.name == "letters-v2"
    assert dataset.source == str(tmp_path / "letters.v2.npz")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_folder_of_idx_files_equals_the_npz_of_the_same_images(tmp_path, zipped):
    folder = write_idx(tmp_path / "idx", zipped=zipped)
    npz = write_npz(tmp_path / "same.npz")
    assert load_dataset(str(folder)).digest == load_dataset(npz).digest
    assert find_test_split(str(folder)).open().digest == find_test_split(npz).open().digest


def test_labels_of_another_integer_type_are_the_same_labels(tmp_path):
    wide = write_npz(tmp_path / "wide.npz", y_train=arrays()["y_train"].astype(np.int64))
    plain = write_npz(tmp_path / "plain.npz")
    assert load_dataset(wide).digest == load_dataset(plain).digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.full((60, 32, 32), 7)}, "parts of different shapes"),
        ({"x_train": np.full((60, 28, 28), 0.3)}, "no pixels divided by 255.*Round them"),
        ({"x_train": np.full((60, 28, 28), 2.5)}, "with fractions"),
        ({"x_train": np.full((60, 28, 28), -1)}, "of -1 to -1, expected pixels"),
        ({"x_train": np.full((60, 28, 28), np.nan)}, "with NaN"),
        ({"x_train": np.ones((60, 28, 28), np.uint8)}, "0 and 1 only.*store x"),
        ({"x_train": np.zeros((60, 100, 30, 4), np.uint8)}, "with transparency"),
        ({"y_train": np.linspace(0, 1, 60)}, r"measured values \(regression\)"),
        ({"y_train": np.ones((60, 10), np.uint8)}, "several classes an image"),
        ({"y_train": np.zeros(59, np.uint8)}, "60 images and 59 labels"),
        ({"y_train": np.zeros(60, np.uint8)}, "no training images of 1, 2"),
    ],
)
def test_bad_arrays_are_refused_with_what_was_found_and_expected(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load_dataset(write_npz(tmp_path / "bad.npz", **changes))


def test_an_npz_without_labels_is_refused(tmp_path):
    np.savez(tmp_path / "odd.npz", images=np.zeros(3))
    with pytest.raises(DataError, match=r"found the arrays images, expected one array of images"):
        load_dataset(str(tmp_path / "odd.npz"))


def test_a_lone_npy_file_is_refused(tmp_path):
    np.save(tmp_path / "lone.npy", np.zeros(3))
    with pytest.raises(DataError, match="is not a usable data set"):
        load_dataset(str(tmp_path / "lone.npy"))


OTHERS = {
    "digits.csv": (b"label,pixel,more\n5,0,1\n", "digits.csv with 3 columns"),
    "digits.txt": (b"five", "a text file"),
    "digit.jpg": (b"\xff\xd8\xff\xe0 and so on", "a JPEG picture"),
    "digit.png": (b"\x89PNG\r\n", "a PNG picture"),
    "data.bin": (b"\x1f\x8b\x01.", "a gzip file"),
    "weights.h5": (b"\x89HDF\r\n", "unreadable"),
    "some.bin": (b"\x01\x00\x02", "a file of no known kind"),
    "nothing.dat": (b"", "an empty file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_kind_is_refused_by_what_it_is(tmp_path, name):
    content, kind = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_dataset(str(tmp_path / name))
    said = str(caught.value)
    assert f"found {kind}" in said
    assert "Give a folder with a folder of pictures for each class" in said
    assert "allow_pickle" not in said


def test_objects_inside_an_npz_are_refused_in_plain_words(tmp_path):
    path = write_npz(tmp_path / "evil.npz", x_train=np.array([{"a": 1}] * 60, dtype=object))
    with pytest.raises(DataError, match="an array of Python objects") as caught:
        load_dataset(path)
    assert "allow_pickle" not in str(caught.value)


def test_idx_files_are_found_below_the_folder(tmp_path):
    folder = write_idx(tmp_path / "raw", zipped=True)
    assert load_dataset(str(tmp_path)).digest == load_dataset(str(folder)).digest


def test_a_folder_of_the_name_of_an_idx_file_is_not_taken_for_it(tmp_path):
    folder = write_idx(tmp_path / "idx", zipped=False)
    (folder / "train-images-idx0-ubyte").mkdir()
    assert len(load_dataset(str(folder)).train) == 50


@pytest.mark.parametrize(
    ("stem", "name"),
    [("it's 5:00@home", "it-s-5-00-home"), ("___", "data"), ("ziffern_ä", "ziffern_ä")],
)
def test_a_data_set_is_named_in_characters_that_mlflow_takes(tmp_path, stem, name):
    assert load_dataset(write_npz(tmp_path / f"{stem}.npz")).name == name


def test_a_download_is_kept_in_the_home_folder_unless_told_otherwise(tmp_path, monkeypatch):
    (tmp_path / "home" / "data").mkdir(parents=True)
    write_npz(tmp_path / "home" / "data" / "fashion_mnist.npz")
    monkeypatch.setenv("MNIST_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert len(load_dataset("fashion_mnist").train) == 50


def test_a_truncated_npz_is_refused(tmp_path):
    path = tmp_path / "cut.npz"
    write_npz(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="unreadable"):
        load_dataset(str(path))


def test_a_pickle_inside_an_npz_is_not_loaded(tmp_path):
    path = write_npz(tmp_path / "evil.npz", x_train=np.array([{"a": 1}] * 60, dtype=object))
    with pytest.raises(DataError, match="unreadable"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"\x00\x00", "2 bytes, expected an IDX header"),
        ("train-images-idx3-ubyte", b"\x00\x00\x08\x01" + bytes(12), "magic number 0x00000801"),
        (
            "train-images-idx3-ubyte",
            struct.pack(">4I", 0x0803, 60, 28, 28),
            "0 data bytes, expected",
        ),
    ],
)
def test_a_bad_idx_file_is_refused(tmp_path, name, content, message):
    folder = write_idx(tmp_path / "idx", zipped=False)
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_dataset(str(folder))


def test_a_truncated_gzip_file_is_refused(tmp_path):
    folder = write_idx(tmp_path / "idx", zipped=True)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="unreadable"):
        load_dataset(str(folder))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="found an empty folder"):
        load_dataset(str(tmp_path))


def test_an_unknown_name_is_refused_with_the_ways_to_provide_it():
    with pytest.raises(DataError, match=r"mnist, fashion_mnist, cifar10.*IDX files"):
        load_dataset("no-such-data")


def test_a_vanished_file_is_refused(tmp_path, monkeypatch):
    path = write_npz(tmp_path / "gone.npz")
    monkeypatch.setattr("mnist_lab.data.load.locate", lambda *_, **__: tmp_path / "other.npz")
    with pytest.raises(DataError, match="No such file"):
        load_dataset(path)


@pytest.mark.slow
def test_a_download_without_a_network_names_the_way_round(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with pytest.raises(DataError, match="could not be downloaded"):
        load_dataset("fashion_mnist", data_folder=tmp_path)


def test_a_kept_download_is_used(tmp_path):
    write_npz(tmp_path / "fashion_mnist.npz")
    dataset = load_dataset("fashion_mnist", data_folder=tmp_path)
    assert (dataset.name, len(dataset.train)) == ("fashion_mnist", 50)


DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not DEBIAN_FASHION.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_debians_fashion_mnist_is_read_as_it_is_installed():
    dataset = load_dataset(str(DEBIAN_FASHION))
    assert (dataset.name, len(dataset.train), len(dataset.validation)) == (
        "fashion-mnist", 50_000, 10_000,
    )  # fmt: skip
    assert np.bincount(find_test_split(str(DEBIAN_FASHION)).open().labels).tolist() == [1000] * 10
