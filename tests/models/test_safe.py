"""Hostile and damaged model files: refused before anything in them is run, and nothing is touched."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest

from mnist_lab.config import LARGEST_ENSEMBLE
from mnist_lab.errors import DataError
from mnist_lab.models.join import join
from mnist_lab.models.safe import check_file, load_model
from mnist_lab.spaces import get_space
from mnist_lab.training import save_model


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A model as a trial leaves it."""
    space = get_space("cnn")
    network = space.build(space.point({"filters_1": 8, "dense_units": 32}), (28, 28), 10)
    file = tmp_path_factory.mktemp("good") / "model.keras"
    keras.Model(network.inputs, network.outputs).save(file)
    return file


@pytest.fixture
def forge(good, tmp_path):
    """The good file with changed members: a function of config, other bytes, or more of them."""

    def forge(*, config=None, weights=None, extra=(), name="model.keras"):
        file = tmp_path / name
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(file, "w") as target:
            for member in source.namelist():
                content = source.read(member)
                if member == "config.json" and config is not None:
                    document = json.loads(content)
                    config(document)
                    content = json.dumps(document).encode()
                if member == "model.weights.h5" and weights is not None:
                    content = weights
                target.writestr(member, content)
            for path, content in extra:
                target.writestr(path, content, zipfile.ZIP_DEFLATED)
        return file

    return forge


def assert_refused(file, match):
    with pytest.raises(DataError, match=match) as caught:
        load_model(file, sha256(file))
    assert "no alias was moved" in str(caught.value)


def layers(document):
    return document["config"]["layers"]


def dense(document):
    return next(each for each in layers(document) if each["class_name"] == "Dense")


@pytest.mark.only_by_default("scale-cnn", "standardize-fnn", "l2_rows-cnn")
@pytest.mark.parametrize("family", ["fnn", "cnn", "fnn-v1", "cnn-v1"])
@pytest.mark.parametrize("normalisation", ["scale", "standardize", "l2_rows"])
def test_every_model_of_the_built_in_spaces_is_loaded(family, normalisation, tmp_path):
    space = get_space(family)
    changes = {"normalisation": normalisation, "batch_normalization": True}
    network = space.build(space.point(changes), (28, 28), 10)
    file = tmp_path / "model.keras"
    keras.Model(network.inputs, network.outputs).save(file)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28)).astype(np.uint8)
    loaded = load_model(file, sha256(file))
    expected = network.predict(pixels, verbose=0)
    np.testing.assert_array_equal(loaded.predict(pixels, verbose=0), expected)


def test_the_largest_corner_of_every_space_passes_the_checks(tmp_path):
    for reference in ("fnn", "cnn"):
        space = get_space(reference)
        ends = {
            name: each.high
            for name, each in space.distributions.items()
            if name.startswith(("units", "filters", "dense_units", "blocks", "hidden"))
        }
        network = space.build(space.point(ends), (28, 28), 10)
        file = tmp_path / f"{reference}.keras"
        keras.Model(network.inputs, network.outputs).save(file)
        check_file(file, sha256(file))


def test_a_flipped_bit_is_refused(good, tmp_path):
    file = tmp_path / "model.keras"
    content = bytearray(good.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="damaged or exchanged"):
        load_model(file, sha256(good))


def test_a_cut_file_is_refused(good, tmp_path):
    file = tmp_path / "model.keras"
    file.write_bytes(good.read_bytes()[:-100])
    assert_refused(file, r"no \.keras archive|cannot be read")


@pytest.mark.parametrize("name", ["model.h5", "model.pkl", "MLmodel"])
def test_other_formats_are_refused_with_the_reason(good, tmp_path, name):
    file = tmp_path / name
    file.write_bytes(good.read_bytes())
    assert_refused(file, "can run code")


def test_a_pickle_in_disguise_is_not_unpickled(tmp_path):
    canary, file = tmp_path / "canary", tmp_path / "model.keras"

    class Evil:
        def __reduce__(self):
            return (canary.write_text, ("touched",))

    file.write_bytes(pickle.dumps(Evil()))
    assert_refused(file, "no .keras archive")
    assert not canary.exists()


def test_a_lambda_is_not_run(tmp_path):
    canary, file = tmp_path / "canary", tmp_path / "model.keras"
    source = f"lambda x: (__import__('pathlib').Path({str(canary)!r}).write_text('x'), x)[1]"
    inputs = keras.Input((28, 28))
    function = eval(source)
    model = keras.Model(inputs, keras.layers.Lambda(function)(inputs))
    canary.unlink(missing_ok=True)  # building it has run it
    model.save(file)
    assert_refused(file, "Lambda, which is not on the list")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("TFSMLayer", "keras.layers"),
        ("Popen", "subprocess"),
        ("system", "os"),
        ("Dense", "evil.package"),
        ("Dense", None),
        ("run", "keras.src.utils"),
    ],
)
def test_a_class_from_elsewhere_is_not_imported(forge, name, module):
    def change(document):
        dense(document).update(class_name=name, module=module)

    assert_refused(forge(config=change), "not on the list of layers")


def test_a_custom_class_is_not_looked_up(forge):
    assert_refused(
        forge(config=lambda d: dense(d).update(registered_name="package>Dense")),
        "not on the list of layers",
    )


def test_a_function_in_the_place_of_an_activation_is_refused(forge):
    def change(document):
        dense(document)["config"]["activation"] = {
            "class_name": "function", "module": "os", "config": "system", "registered_name": None,
        }  # fmt: skip

    assert_refused(forge(config=change), "os.function, which is not on the list")


def test_a_module_without_a_class_is_refused(forge):
    assert_refused(
        forge(config=lambda d: dense(d)["config"].update(x={"module": "os", "config": "system"})),
        "a module without a class",
    )


@pytest.mark.parametrize("name", ["../../canary", "a/b", "..", "x" * 200])
def test_a_layer_whose_name_is_a_path_is_refused(forge, name):
    assert_refused(forge(config=lambda d: dense(d)["config"].update(name=name)), "a layer is named")


@pytest.mark.parametrize("units", [10**12, 70_000, -1])
def test_impossible_sizes_are_refused_before_memory_is_taken(forge, units):
    assert_refused(forge(config=lambda d: dense(d)["config"].update(units=units)), "units is")


def test_sizes_that_are_too_much_together_are_refused(forge):
    def change(document):
        for each in layers(document):
            if each["class_name"] == "Dense":
                each["config"]["units"] = 60_000

    assert_refused(forge(config=change), "parameters")


@pytest.mark.parametrize("shape", [[None, 60_000], [None, 10**10], [None, 9000, 9000, 9000]])
def test_a_layer_that_would_be_built_for_a_huge_input_is_refused(forge, shape):
    def change(document):
        dense(document)["config"]["units"] = 50_000
        dense(document)["build_config"] = {"input_shape": shape}

    assert_refused(forge(config=change), "parameters|input_shape is")


def test_an_archive_under_a_password_is_refused(good, tmp_path):
    file = tmp_path / "model.keras"
    content = bytearray(good.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        where = content.find(signature)
        while where >= 0:
            content[where + offset] |= 1  # the flag that says encrypted
            where = content.find(signature, where + 4)
    file.write_bytes(content)
    assert_refused(file, "cannot be read")


def test_a_file_that_is_too_large_is_refused(forge):
    assert_refused(forge(weights=b"\0" * (201 * 2**20)), "larger than")


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(good, tmp_path, kind):
    file = tmp_path / "model.keras"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(file, "w", kind) as target:
        for member in source.namelist():
            target.writestr(member, source.read(member) + b" " * 2**20)
    assert_refused(file, "is compressed, which Keras does not do")


def test_a_model_that_is_built_for_a_huge_input_is_refused(tmp_path, forge):
    def change(document):
        document.update(class_name="Sequential", module="keras.models", registered_name=None)
        document["config"]["build_input_shape"] = [None, 10**9]

    assert_refused(forge(config=change), "build_input_shape is")


@pytest.mark.parametrize(
    ("key", "value"),
    [("lora_rank", 10**10), ("quantization_config", {"rank": 1}), ("depth_multiplier", 1000)],
)
def test_what_would_add_to_a_layer_is_refused(forge, key, value):
    assert_refused(forge(config=lambda d: dense(d)["config"].update({key: value})), f"{key} is")


def test_a_layer_that_doubles_the_width_is_refused(forge):
    def change(document):
        dense(document)["class_name"] = "Concatenate"

    assert_refused(forge(config=change), "Concatenate, which is not on the list")


@pytest.mark.parametrize("units", [float("inf"), float("nan"), 1e300])
def test_numbers_that_are_none_are_refused(forge, units):
    assert_refused(forge(config=lambda d: dense(d)["config"].update(units=units)), "refused")


@pytest.mark.parametrize("name", [["x"], {"a": 1}, 7, None])
def test_a_class_that_is_no_name_is_refused(forge, name):
    assert_refused(forge(config=lambda d: dense(d).update(class_name=name)), "refused")


def test_what_keras_cannot_load_is_refused(forge):
    """Every check passes; a layer is wired to one that is not there."""

    def change(document):
        document["config"]["output_layers"] = [["nothing", 0, 0]]

    assert_refused(forge(config=change), "Keras cannot load it")


def test_a_config_that_is_nested_without_end_is_refused(forge):
    def change(document):
        inner = document
        for _ in range(150):
            inner["x"] = {}
            inner = inner["x"]

    assert_refused(forge(config=change), "nested too deep")


@pytest.mark.parametrize("path", ["../canary", "assets/x.txt", "/tmp/canary", "model.weights.npz"])
def test_a_member_that_does_not_belong_there_is_refused(forge, path, tmp_path):
    assert_refused(forge(extra=[(path, b"x")]), "it holds")
    assert not (tmp_path.parent / "canary").exists()


def hdf5(tmp_path, fill):
    file = tmp_path / "weights.h5"
    with h5py.File(file, "w") as root:
        fill(root, tmp_path)
    return file.read_bytes()


def external_link(root, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as other:
        other["x"] = np.ones(3)
    root["layers"] = h5py.ExternalLink(str(secret), "/x")


def soft_link(root, _):
    root["layers"] = h5py.SoftLink("/elsewhere")


def external_data(root, tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"s" * 64)
    root.create_dataset("x", (8,), "f8", external=[(str(secret), 0, 64)])


def virtual_data(root, tmp_path):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (3,))
    root.create_virtual_dataset("x", layout)


def hollow_data(root, _):
    root.create_dataset("x", (10**9,), "f4")


def packed_data(root, _):
    root.create_dataset("x", data=np.zeros(10**6), compression="gzip")


def circle(root, _):
    root.create_group("a")["again"] = root["/"]


def many_ways(root, _):
    group = root.create_group("x")
    for _ in range(20):
        inner = group.create_group("a")
        group["b"] = group["c"] = inner
        group = inner


def data_of_words(root, _):
    root.create_dataset("x", data=[b"word"])


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (circle, "stands elsewhere too"),
        (many_ways, "stands elsewhere too"),
        (external_link, "a link to somewhere else"),
        (soft_link, "a link to somewhere else"),
        (external_data, "no plain array"),
        (virtual_data, "no plain array"),
        (hollow_data, "claims more bytes"),
        (packed_data, "no plain array"),
        (data_of_words, "no plain array"),
    ],
)
def test_weights_that_reach_out_of_the_file_are_refused(forge, tmp_path, fill, reason):
    assert_refused(forge(weights=hdf5(tmp_path, fill)), reason)


def test_weights_that_are_none_are_refused(forge):
    assert_refused(forge(weights=b"not HDF5"), "cannot be read")


def test_a_link_in_the_place_of_the_file_is_refused(good, tmp_path):
    link = tmp_path / "model.keras"
    link.symlink_to(good)
    with pytest.raises(DataError, match="no such file"):
        load_model(link, sha256(good))


@pytest.mark.parametrize("name", ["fnn", "cnn"])
def test_the_largest_ensemble_of_a_shipped_space_is_loaded(tmp_path, name):
    space = get_space(name)
    networks = [space.build(space.point({}), (28, 28), 10) for _ in range(LARGEST_ENSEMBLE)]
    whole, file = join(networks), tmp_path / "model.keras"
    save_model(whole, file)
    loaded = load_model(file, sha256(file))
    assert loaded.count_params() == LARGEST_ENSEMBLE * networks[0].count_params()
