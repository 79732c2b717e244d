"""Using a registered model: pictures, other formats, the server, and training it again."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version as installed
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import keras
import numpy as np
import pytest
from PIL import Image

from mnist_lab.config import SweepConfig
from mnist_lab.data import ImageForm, load_dataset
from mnist_lab.data.sealed import find_test_split
from mnist_lab.errors import ConfigurationError, DataError, MnistLabError, UnknownNameError
from mnist_lab.models.export import FORMATS, export
from mnist_lab.models.join import join
from mnist_lab.models.pictures import centre_digit, read_pictures
from mnist_lab.models.predict import predict
from mnist_lab.models.serving import prepare, server_command
from mnist_lab.models.versions import find_trial_model, find_version
from mnist_lab.spaces import get_space
from mnist_lab.study.open import open_study
from mnist_lab.sweep import launch
from mnist_lab.sweep.reproduce import reproduce

pytestmark = pytest.mark.timeout(1200)  # trainings and servers, on a machine that is busy
NAME = "tiny-fnn@champion"
# Each room's door has a function by the name of its module.
exporting = sys.modules[export.__module__]
reproducing = sys.modules[reproduce.__module__]


@pytest.fixture(scope="module")
def digits():
    """Real test images and their labels, four of each class."""
    test = find_test_split().open()
    chosen = np.concatenate([np.flatnonzero(test.labels == c)[:4] for c in range(10)])
    return test.images[chosen], test.labels[chosen]


@pytest.fixture(scope="module")
def skilled(tmp_path_factory):
    """A network that knows real digits: 20,000 images, four epochs, a few seconds."""
    keras.utils.set_random_seed(0)
    space, train = get_space("fnn"), load_dataset().train
    params = space.point({"units_1": 256, "normalisation": "scale", "dropout": 0.0})
    network = space.build(params, (28, 28), 10)
    labels = keras.utils.to_categorical(train.labels[:20_000], 10)
    network.fit(train.images[:20_000], labels, batch_size=100, epochs=4, verbose=0)
    file = tmp_path_factory.mktemp("skilled") / "model.keras"
    keras.Model(network.inputs, network.outputs).save(file)
    return file


@pytest.fixture
def champion(make_study, promote, client):
    make_study("a", "good")
    promote("a")
    return find_version(client, NAME)


def model_folder(client, version):
    model = find_trial_model(client, version.run_id).model
    return client.get_logged_model(model).artifact_location.removeprefix("file://")


def draw(pixels, file, *, size, ink, paper, place=(0.5, 0.5)):
    """A picture of a digit: scaled, on a larger sheet, in colours given as RGB."""
    shape = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
    side = int(size * 1.5)
    sheet, mask = Image.new("RGB", (side, side), paper), Image.new("L", (side, side), 0)
    mask.paste(shape, tuple(int((side - size) * each) for each in place))
    sheet.paste(Image.new("RGB", (side, side), ink), mask=mask)
    sheet.save(file)


def test_pictures_of_any_size_and_colour_are_read_as_the_digits_they_show(
    digits, skilled, tmp_path
):
    looks = [
        {"size": 28, "ink": "white", "paper": "black"},
        {"size": 200, "ink": "black", "paper": "white", "place": (0.0, 1.0)},
        {"size": 57, "ink": (20, 30, 120), "paper": (240, 235, 210), "place": (0.9, 0.2)},
        {"size": 400, "ink": (250, 240, 90), "paper": (10, 60, 30), "place": (0.3, 0.7)},
        {"size": 20, "ink": (200, 0, 0), "paper": (0, 140, 0)},
    ]
    images, labels = digits
    files = []
    for index, pixels in enumerate(images):
        files.append(tmp_path / f"{index}.{'png' if index % 3 else 'jpg'}")
        draw(pixels, files[-1], **looks[index % len(looks)])
    pictures = np.stack([each.pixels for each in read_pictures(files, ImageForm())])
    network = keras.saving.load_model(skilled, compile=False)
    raw = network.predict(images, verbose=0).argmax(axis=1)
    found = network.predict(pictures, verbose=0).argmax(axis=1)
    assert (raw == labels).mean() >= 0.9
    assert (found == raw).mean() >= 0.9, list(zip(labels, raw, found, strict=True))


def test_a_digit_of_mnist_is_where_mnist_has_it(digits):
    images, _ = digits
    for pixels in images:
        again = centre_digit(pixels / 255)
        assert np.abs(again.astype(int) - pixels).mean() < 10


def test_a_digit_fits_the_box_and_has_its_mass_in_the_middle():
    ink = np.zeros((300, 100))
    ink[10:210, 20:60] = 1.0
    pixels = centre_digit(ink)
    rows, columns = np.nonzero(pixels)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 4)
    assert (rows.mean(), columns.mean()) == pytest.approx((14, 14), abs=0.5)


def test_a_transparent_ground_is_paper(tmp_path, digits):
    pixels = digits[0][0]
    opaque = np.zeros((28, 28, 4), np.uint8)
    opaque[..., 3] = pixels
    Image.fromarray(opaque).resize((90, 90)).save(tmp_path / "x.png")
    (picture,) = read_pictures([tmp_path / "x.png"], ImageForm())
    # The same digit again, light on dark.
    assert np.corrcoef(picture.pixels.ravel(), pixels.ravel())[0, 1] > 0.8


def test_sixteen_bits_are_read(tmp_path):
    deep = np.zeros((50, 50), np.uint16)
    deep[10:40, 20:30] = 60_000
    Image.fromarray(deep).save(tmp_path / "x.png")
    (picture,) = read_pictures([tmp_path / "x.png"], ImageForm())
    assert picture.pixels.max() == 255


def test_as_is_scales_only(tmp_path):
    Image.new("L", (56, 56), 7).save(tmp_path / "x.png")
    (picture,) = read_pictures([tmp_path / "x.png"], ImageForm(), as_is=True)
    assert np.unique(picture.pixels) == [7]


def test_arrays_and_idx_files_are_taken_as_they_are(tmp_path, digits):
    images, _ = digits
    np.save(tmp_path / "many.npy", images)
    np.save(tmp_path / "one.npy", images[0])
    idx = struct.pack(">4I", 0x0803, len(images), 28, 28) + images.tobytes()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx))
    for name, expected in (("many.npy", images), ("one.npy", images[:1]),
                           ("t10k-images-idx3-ubyte.gz", images)):  # fmt: skip
        found = list(read_pictures([tmp_path / name], ImageForm()))
        np.testing.assert_array_equal(np.stack([each.pixels for each in found]), expected)
    assert found[3].source.endswith("[3]")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.png", b"not a picture", "no picture that can be read"),
        ("x.png", None, "no such file"),
        ("x.npy", b"\x93NUMPY broken", "unreadable"),
        ("x-ubyte", b"short", "no images that can be read"),
        ("x.npy", None, "no such file"),
    ],
)
def test_a_file_that_is_no_picture_is_refused(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        list(read_pictures([tmp_path / name], ImageForm()))


@pytest.mark.parametrize("shape", [(3, 32, 32), (0, 28, 28), (28,)])
def test_arrays_of_another_shape_are_refused(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"\(N, 28, 28\) uint8"):
        list(read_pictures([tmp_path / "x.npy"], ImageForm()))


def test_an_archive_under_the_name_of_an_array_is_refused(tmp_path):
    with open(tmp_path / "x.npy", "wb") as file:
        np.savez(file, x=np.zeros(3))
    with pytest.raises(DataError, match="no images that can be read"):
        list(read_pictures([tmp_path / "x.npy"], ImageForm()))


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="no picture that can be read"):
        list(read_pictures([tmp_path / "x.png"], ImageForm()))


def test_a_large_picture_is_read(tmp_path, digits):
    Image.fromarray(digits[0][0]).resize((3000, 3000)).save(tmp_path / "x.png")
    (picture,) = read_pictures([tmp_path / "x.png"], ImageForm())
    assert np.corrcoef(picture.pixels.ravel(), digits[0][0].ravel())[0, 1] > 0.8


def test_a_blank_picture_shows_nothing(tmp_path):
    Image.new("RGB", (50, 50), "white").save(tmp_path / "x.png")
    with pytest.raises(DataError, match="shows nothing"):
        list(read_pictures([tmp_path / "x.png"], ImageForm()))


def test_a_registered_model_predicts_what_its_file_predicts(
    champion, client, networks, tmp_path, settings
):
    np.save(tmp_path / "x.npy", find_test_split().open().images[:5])
    version, images, found = predict(client, NAME, [tmp_path / "x.npy"], settings)
    expected = keras.saving.load_model(networks["good"]).predict(
        np.load(tmp_path / "x.npy"), verbose=0
    )
    assert images.classes == 10
    assert version == "tiny-fnn/1"
    np.testing.assert_allclose([each.probabilities for each in found], expected, atol=1e-6)
    assert [each.label for each in found] == expected.argmax(axis=1).tolist()


def test_a_model_that_was_exchanged_predicts_nothing(champion, client, networks, settings):
    where = model_folder(client, champion)
    with open(f"{where}/data/model.keras", "wb") as file:
        file.write(networks["twin"].read_bytes())
    with pytest.raises(DataError, match="damaged or exchanged"):
        predict(client, NAME, [], settings)


@pytest.mark.only_by_default("keras", "onnx")
@pytest.mark.parametrize("kind", FORMATS)
def test_every_export_predicts_the_same_when_its_own_runtime_reads_it(
    champion, client, tmp_path, kind, settings
):
    done = export(client, NAME, kind, tmp_path / "out", settings)
    assert done.difference < 1e-4
    assert all(file.exists() for file in done.files)


@pytest.mark.parametrize(
    "activation",
    ["gelu", *(pytest.param(e, marks=pytest.mark.slow) for e in ("relu", "elu", "silu", "tanh"))],
)
def test_a_cnn_of_every_activation_is_exported_to_onnx(activation, tmp_path):
    space = get_space("cnn-v1")
    params = space.point({"activation": activation, "filters_1": 8, "dense_units": 32,
                          "batch_normalization": True})  # fmt: skip
    network = space.build(params, (28, 28), 10)
    probes = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    _, found = FORMATS["onnx"](network, tmp_path / "m", probes)
    np.testing.assert_allclose(found, network.predict(probes, verbose=0), atol=1e-5)


@pytest.mark.only_by_default("standardize")
@pytest.mark.parametrize("normalisation", ["standardize", "l2_rows"])
def test_every_normalisation_is_exported_to_onnx(normalisation, tmp_path):
    space = get_space("fnn")
    network = space.build(space.point({"normalisation": normalisation}), (28, 28), 10)
    probes = np.random.default_rng(0).integers(0, 256, (500, 28, 28)).astype(np.uint8)
    if normalisation == "standardize":
        next(layer for layer in network.layers if layer.name == "standardize").adapt(probes)
    _, found = FORMATS["onnx"](network, tmp_path / "m", probes)
    np.testing.assert_allclose(found, network.predict(probes, verbose=0), atol=1e-5)


@pytest.mark.parametrize("kind", ["h5", "onnx"])
def test_an_ensembles_normalisation_is_exported(kind, tmp_path):
    space = get_space("fnn")
    probes = np.random.default_rng(0).integers(0, 256, (50, 28, 28)).astype(np.uint8)
    networks = []
    for _ in range(2):
        network = space.build(space.point({"normalisation": "standardize"}), (28, 28), 10)
        next(layer for layer in network.layers if layer.name == "standardize").adapt(probes)
        networks.append(network)
    _, found = FORMATS[kind](join(networks), tmp_path / "m", probes)
    expected = np.mean([each.predict(probes, verbose=0) for each in networks], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 2), (2, 1)])
def test_a_nested_model_of_several_tensors_is_exported_to_onnx(inputs, outputs, tmp_path):
    entries = [keras.Input((784,)) for _ in range(inputs)]
    middle = keras.layers.Dense(8)(keras.layers.Average()([*entries, *entries]))
    nested = keras.Model(entries, [keras.layers.Dense(10)(middle) for _ in range(outputs)])
    pixels = keras.Input((28, 28), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    found = nested([flat] * inputs)
    x = keras.layers.Add()(found) if outputs > 1 else found[0]
    network = keras.Model(pixels, keras.layers.Softmax()(x))
    _, difference = exporting._write(network, "onnx", tmp_path / "m", NAME)
    assert difference < 1e-5


class WithoutConfig(keras.layers.Layer):
    """Keras cannot describe it: one of its arguments is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


@pytest.fixture
def undescribed():
    pixels = keras.Input((28, 28), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    x = WithoutConfig(lambda each: 2 * each)(x)
    return keras.Model(pixels, keras.layers.Dense(10, activation="softmax")(x))


def test_a_class_without_get_config_is_exported_to_onnx(undescribed, tmp_path):
    _, difference = exporting._write(undescribed, "onnx", tmp_path / "m", NAME)
    assert difference < 1e-5


@pytest.mark.parametrize("kind", ["keras", "json+weights"])
def test_a_class_without_get_config_is_named_as_the_cause(undescribed, tmp_path, kind):
    with pytest.raises(DataError, match="a class in it has no get_config") as caught:
        exporting._write(undescribed, kind, tmp_path / "m", NAME)
    assert "saved_model" in caught.value.next_step


@pytest.mark.slow
def test_an_export_that_predicts_otherwise_is_refused(
    champion, client, tmp_path, monkeypatch, settings
):
    monkeypatch.setattr(exporting, "FORMATS", {"odd": odd_writer(np.zeros(10))})
    with pytest.raises(DataError, match="does not predict the same"):
        export(client, NAME, "odd", tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


def odd_writer(result):
    """Write a file and a folder; return, or raise, ``result``."""

    def write(network, path, probes):
        path.touch()
        (path.parent / "folder").mkdir()
        if isinstance(result, BaseException):
            raise result
        return [path, path.parent / "folder"], result

    return write


@pytest.mark.only_by_default("ValueError-type-int")
@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (ValueError("two\nlines"), DataError, 66),
        (MemoryError(), DataError, 66),
        (OSError(28, "No space left on device"), ConfigurationError, 78),
    ],
    ids=lambda each: type(each).__name__,
)
def test_whatever_fails_an_export_is_one_line_and_leaves_nothing(
    champion, client, tmp_path, monkeypatch, error, expected, code, settings
):
    monkeypatch.setattr(exporting, "FORMATS", {"odd": odd_writer(error)})
    with pytest.raises(expected) as caught:
        export(client, NAME, "odd", tmp_path / "a" / "out", settings)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_an_export_that_fails_leaves_the_one_before_as_it_was(
    champion, client, tmp_path, monkeypatch, settings
):
    out = tmp_path / "out"
    (file,) = export(client, NAME, "keras", out, settings).files
    before = file.read_bytes()
    monkeypatch.setattr(exporting, "FORMATS", {"keras": odd_writer(ValueError())})
    with pytest.raises(DataError):
        export(client, NAME, "keras", out, settings)
    assert [each.read_bytes() for each in out.iterdir()] == [before]


def test_a_folder_that_cannot_be_made_is_named(champion, client, tmp_path, settings):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file cannot be written"):
        export(client, NAME, "keras", tmp_path / "file", settings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", "saved_model"])
def test_an_export_takes_the_place_of_the_one_before(champion, client, tmp_path, kind, settings):
    out = tmp_path / "out"
    first, second = (export(client, NAME, kind, out, settings).files for _ in "12")
    assert first == second == tuple(out.iterdir())


@pytest.mark.only_by_default("keras-expected0")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((kind, ["keras", "tensorflow"]) for kind in ("keras", "h5", "json+weights")),
        ("saved_model", ["tensorflow"]),
        ("onnx", ["onnxruntime"]),
    ],
)
def test_an_export_says_which_packages_read_it(
    champion, client, tmp_path, kind, expected, settings
):
    needs = export(client, NAME, kind, tmp_path, settings).needs
    assert needs == tuple(f"{name}>={installed(name)}" for name in expected)


@pytest.mark.parametrize("space", ["fnn", "cnn"])
def test_the_usual_winners_normalisation_is_exported_to_h5(space, tmp_path):
    built = get_space(space)
    network = built.build(built.point({"normalisation": "standardize"}), (28, 28), 10)
    probes = np.random.default_rng(0).integers(0, 256, (50, 28, 28)).astype(np.uint8)
    next(layer for layer in network.layers if layer.name == "standardize").adapt(probes)
    (file,), _ = FORMATS["h5"](network, tmp_path / "m", probes)
    loaded = keras.saving.load_model(file, compile=False)
    expected = network.predict(probes, verbose=0)
    np.testing.assert_allclose(loaded.predict(probes, verbose=0), expected, atol=1e-5)


def test_an_unknown_format_names_the_known_ones(client, tmp_path, settings):
    with pytest.raises(UnknownNameError, match="saved_model"):
        export(client, NAME, "pickle", tmp_path, settings)


def test_the_server_answers_as_the_model_and_is_made_of_the_checked_file_only(
    champion, client, settings, networks, free_port, wait_until
):
    where = model_folder(client, champion)
    with open(f"{where}/MLmodel", "w") as file:
        file.write("flavors: {python_function: {loader_module: evil}}\n")
    folder = prepare(client, NAME, settings)
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    server = subprocess.Popen(
        server_command(folder, free_port), env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{free_port}"
    try:
        wait_until(lambda: urlopen(f"{address}/ping").status == 200, seconds=600)
        images = find_test_split().open().images[:2]
        body = json.dumps({"inputs": images.tolist()}).encode()
        request = Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        answers = json.load(urlopen(request))["predictions"]
        wrong = json.dumps({"inputs": np.full((1, 28, 28), 0.3).tolist()}).encode()
        with pytest.raises(HTTPError, match="400"):
            urlopen(Request(f"{address}/invocations", wrong, {"Content-Type": "application/json"}))
    finally:
        os.killpg(server.pid, 15)
        server.wait()
    expected = keras.saving.load_model(networks["good"]).predict(images, verbose=0)
    found = [list(each["probabilities"].values()) for each in answers]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [each["class"] for each in answers] == [str(each) for each in expected.argmax(axis=1)]


@pytest.fixture
def swept(settings, small_file):
    """A real sweep of one FNN and one CNN, one thread each."""

    def sweep(space, **options):
        config = SweepConfig(
            space=space, trials=1, epochs=3, workers=1, dataset=str(small_file), study=space,
            pruner="none", **options,
        )  # fmt: skip
        launch(config, settings)
        study = open_study(settings, space)
        return study, study.trial(0)

    return sweep


@pytest.mark.only_by_default("fnn-changes0")
@pytest.mark.parametrize(
    ("space", "changes"),
    [("fnn", {}), ("cnn", {"filters_1": 8, "dense_units": 32})],
)
def test_a_trial_is_reproduced_bit_for_bit(swept, settings, space, changes, monkeypatch):
    monkeypatch.setattr("mnist_lab.execution.resources.usable_cores", lambda: 1)
    study, trial = swept(space, set=changes)
    assert trial.environment["threads"] == "1"
    done = reproduce(study, trial, settings)
    assert (done.outcome, done.first_difference, done.environment) == ("bit-exact", None, {})
    assert (done.epochs, done.found) == (3, trial.value)


@pytest.fixture
def recorded(settings, small_file, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "none")
    config = SweepConfig(
        space="fnn", trials=2, epochs=2, workers=1, dataset=str(small_file), study="s", pruner="none"
    )  # fmt: skip
    launch(config, settings, trainer="fakes:run_trial")
    return open_study(settings, "s")


def again(study, trial, settings):
    return reproduce(study, trial, settings, trainer="fakes:run_trial")


@pytest.mark.parametrize(("shift", "outcome"), [(0.001, "within tolerance"), (0.1, "diverged")])
def test_what_differs_is_named_with_its_first_epoch(recorded, settings, shift, outcome):
    trial = recorded.trial(0)
    first, second = trial.history
    other = replace(second, val_accuracy=second.val_accuracy + shift)
    trial = replace(trial, history=(first, other), environment={"keras": "2.0"})
    done = again(recorded, trial, settings)
    assert (done.outcome, done.first_difference) == (outcome, 2)
    assert done.environment == {"keras": ("2.0", "unknown")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("then", "precision"), [({"precision": "bfloat16"}, "bfloat16"), ({}, "float32")], ids=str
)
def test_a_trial_is_trained_again_in_the_precision_it_had(
    recorded, settings, monkeypatch, then, precision
):
    seen = []

    def make_executor(_, spec):
        seen.append(spec.precision)
        raise MnistLabError("as far as this test goes")

    monkeypatch.setattr(reproducing, "make_executor", make_executor)
    trial = replace(recorded.trial(0), environment=then)
    with pytest.raises(MnistLabError, match="as far"):
        again(recorded, trial, settings)
    assert seen == [precision]


def test_other_data_are_not_trained_on(recorded, settings, small_file, monkeypatch):
    changed = load_dataset("mnist")
    monkeypatch.setattr("mnist_lab.study.open.load_dataset", lambda *_, **__: changed)
    with pytest.raises(DataError, match="is not the data"):
        again(recorded, recorded.trial(0), settings)


def test_a_space_that_has_changed_is_not_trained(recorded, settings, monkeypatch):
    other = replace(get_space("fnn"), version=9)
    monkeypatch.setattr("mnist_lab.study.open.get_space", lambda _: other)
    with pytest.raises(ConfigurationError, match="has changed"):
        again(recorded, recorded.trial(0), settings)


def test_a_trial_that_was_not_finished_cannot_be_reproduced(recorded, settings):
    recorded.study.ask()
    with pytest.raises(MnistLabError, match="not complete"):
        again(recorded, recorded.trial(2), settings)


def test_a_training_that_fails_says_why(recorded, settings):
    with pytest.raises(MnistLabError, match=r"failed: diverged"):
        reproduce(recorded, recorded.trial(0), settings, trainer="fakes:run_failing_trial")
