"""A stranger's model, built again by its space: weights from its file, and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest

from mnist_lab.data import ImageForm
from mnist_lab.errors import DataError
from mnist_lab.execution.blueprint import Blueprint
from mnist_lab.models.join import join
from mnist_lab.models.rebuild import SpaceAbsentError, check_trained, load_trained
from mnist_lab.models.safe import names_keras_only
from mnist_lab.spaces.asking import Answers
from mnist_lab.spaces.registry import load_space
from mnist_lab.spaces.trust import is_trusted, trust
from mnist_lab.training import around, find_form
from mnist_lab.training.saving import save_model

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 28, 28)).astype(np.uint8)


@pytest.fixture
def saved(strangers, small_dataset, settings, tmp_path):
    """A model of ``strangers.py`` as a trial leaves it: its file, digest, blueprint, predictions."""

    def save(name, *, trusted=True):
        file = tmp_path / "space" / "mine.py"
        file.parent.mkdir(exist_ok=True)
        shutil.copyfile(strangers, file)
        space = load_space(f"{file}:{name}")
        answers = Answers(ask=lambda question: question.default)
        author = space.open(answers)

        def build():
            return author.build((28, 28), 10)

        form = find_form(build, small_dataset.train, 10, fit=author.fit)
        model = build()
        model(form.feed(PIXELS))
        whole = around(model, form, (28, 28))
        save_model(whole, tmp_path / "model.keras")
        blueprint = Blueprint(
            space=f"{file}:{name}",
            sources=space.sources,
            params=answers.values,
            form=form.to_dict(),
        )
        if trusted:
            trust(settings, space)
        digest = hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest()
        return tmp_path / "model.keras", digest, blueprint, whole.predict(PIXELS, verbose=0)

    return save


STRANGE = ["subclassed", "own_train_step", "augmented", "own_normalization", "sigmoids"]


@pytest.mark.only_by_default("sigmoids")
@pytest.mark.parametrize("name", [*STRANGE, "Loops", "TwoBranches", "OwnLoop", "build"])
def test_any_model_is_built_again_and_predicts_the_same(saved, settings, name):
    file, digest, blueprint, expected = saved(name)
    check_trained(file, digest, blueprint, settings)
    found = load_trained(file, digest, blueprint, settings).predict(PIXELS, verbose=0)
    assert found == pytest.approx(expected, abs=1e-6)


def test_an_ensemble_of_strangers_models_is_built_again_and_predicts_their_mean(
    saved, settings, tmp_path
):
    *one, _ = saved("subclassed")
    random = np.random.default_rng(0)
    whole = join([load_trained(*one, settings) for _ in range(3)])
    whole.set_weights([random.normal(0, 0.1, each.shape) for each in whole.get_weights()])
    file = tmp_path / "ensemble.keras"
    save_model(whole, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    blueprint = replace(one[-1], members=3)
    check_trained(file, digest, blueprint, settings)
    found = load_trained(file, digest, blueprint, settings).predict(PIXELS, verbose=0)
    assert found == pytest.approx(whole.predict(PIXELS, verbose=0), abs=1e-6)


@pytest.mark.parametrize("members", [0, 10])
def test_a_registry_cannot_ask_for_an_impossible_ensemble(saved, settings, members):
    file, digest, blueprint, _ = saved("subclassed")
    with pytest.raises(DataError, match=f"no ensemble has {members} members"):
        load_trained(file, digest, replace(blueprint, members=members), settings)


def test_a_blueprint_survives_json(saved):
    _, _, blueprint, _ = saved("sigmoids")
    newer = {**json.loads(blueprint.to_json()), "newer": 1}
    assert Blueprint.from_json(json.dumps(newer)) == blueprint


@pytest.mark.parametrize("name", ["Loops", "convolution_without_input"])
def test_without_its_space_a_model_of_known_layers_is_loaded_by_the_list(saved, settings, name):
    file, digest, blueprint, expected = saved(name, trusted=False)
    found = load_trained(file, digest, blueprint, settings).predict(PIXELS, verbose=0)
    assert found == pytest.approx(expected, abs=1e-6)


def change(blueprint):
    space = blueprint.space.partition(":")[0]
    with open(space, "a") as file:
        file.write("\n# changed\n")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (change, r"mine\.py, or one beside it, has changed"),
        (lambda b: shutil.rmtree(b.space.rpartition("/")[0]), r"mine\.py is gone"),
    ],
)
@pytest.mark.parametrize("name", ["subclassed", "augmented"])
def test_a_changed_or_missing_space_is_refused_by_name(saved, settings, spoil, why, name):
    file, digest, blueprint, _ = saved(name)
    spoil(blueprint)
    for look in (check_trained, load_trained):
        with pytest.raises(SpaceAbsentError, match=why):
            look(file, digest, blueprint, settings)


def test_a_space_file_that_was_moved_and_swept_again_is_found(saved, settings, tmp_path):
    file, digest, blueprint, expected = saved("subclassed")
    (tmp_path / "space").rename(tmp_path / "moved")
    with pytest.raises(SpaceAbsentError, match="is gone"):
        load_trained(file, digest, blueprint, settings)
    trust(settings, load_space(f"{tmp_path}/moved/mine.py:subclassed"))
    found = load_trained(file, digest, blueprint, settings).predict(PIXELS, verbose=0)
    assert found == pytest.approx(expected, abs=1e-6)


def test_code_that_was_never_swept_from_this_home_is_not_run(saved, settings, tmp_path):
    file, digest, blueprint, _ = saved("subclassed", trusted=False)
    space = tmp_path / "space" / "mine.py"
    space.write_text(space.read_text() + f"\nopen({str(tmp_path / 'canary')!r}, 'w').close()\n")
    from mnist_lab.spaces.files import digest_sources

    evil = Blueprint(space=blueprint.space, sources=digest_sources(space), params={})
    with pytest.raises(SpaceAbsentError, match="never swept from"):
        load_trained(file, digest, evil, settings)
    assert not (tmp_path / "canary").exists()


def test_a_package_that_is_not_installed_any_more_is_named(saved, settings):
    file, digest, *_ = saved("subclassed")
    gone = Blueprint(space="gone-v1", sources="0" * 64, params={})
    with pytest.raises(SpaceAbsentError, match="no search space 'gone-v1'"):
        load_trained(file, digest, gone, settings)


def test_another_file_than_was_logged_is_refused_before_the_space_is_run(saved, settings):
    file, _, blueprint, _ = saved("subclassed")
    with pytest.raises(DataError, match="damaged or exchanged"):
        load_trained(file, "0" * 64, blueprint, settings)


def rewrite(file, weights):
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = weights(members["model.weights.h5"])
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def with_a_link(content):
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as root:
        root["evil"] = h5py.ExternalLink("/etc/passwd", "/")
    return buffer.getvalue()


def test_weights_that_reach_out_of_the_file_are_refused_for_a_rebuilt_model_too(saved, settings):
    file, _, blueprint, _ = saved("subclassed")
    with pytest.raises(DataError, match="link to somewhere else"):
        load_trained(file, rewrite(file, with_a_link), blueprint, settings)


@pytest.mark.slow
def test_weights_of_another_model_are_refused(saved, settings):
    file, digest, blueprint, _ = saved("Loops")
    other = Blueprint(**{**vars(blueprint), "params": {**blueprint.params, "units_0": 32}})
    with pytest.raises(DataError, match="does not fit"):
        load_trained(file, digest, other, settings)


def test_trust_is_of_one_home_one_path_and_one_digest(saved, settings, tmp_path):
    _, _, blueprint, _ = saved("Loops")
    assert is_trusted(settings, blueprint.space, blueprint.sources)
    assert not is_trusted(settings, blueprint.space, "0" * 64)
    assert not is_trusted(settings, f"/elsewhere/{blueprint.space}", blueprint.sources)
    assert not is_trusted(
        type(settings)(home=tmp_path / "other"), blueprint.space, blueprint.sources
    )


def test_a_parameter_outside_its_range_does_not_reach_the_authors_code(saved, settings):
    file, digest, blueprint, _ = saved("Loops")
    wide = Blueprint(**{**vars(blueprint), "params": {**blueprint.params, "units_0": 4000}})
    with pytest.raises(DataError, match="units_0=4000 is outside 8 to 32"):
        load_trained(file, digest, wide, settings)


def test_a_file_with_classes_of_its_authors_is_told_from_one_of_keras_alone(saved, tmp_path):
    file, *_ = saved("augmented")
    assert names_keras_only(file)
    file, *_ = saved("own_train_step")
    assert not names_keras_only(file)


def test_a_large_model_of_a_shipped_space_is_built_again_for_its_images(settings, tmp_path):
    form = ImageForm(shape=(96, 96, 3), class_names=("a", "b"), preparation="picture")
    space = load_space("cnn-v3").shaped(form.shape)
    params = space.point({"blocks": 4, "filters": 96})
    model = space.build(params, form.shape, form.classes)
    file = tmp_path / "model.keras"
    save_model(model, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    blueprint = Blueprint(space="cnn-v3", sources="", params=params, images=form)
    with pytest.raises(DataError, match="it may have"):
        load_trained(file, digest, None, settings)
    check_trained(file, digest, blueprint, settings)
    found = load_trained(file, digest, blueprint, settings)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *form.shape)).astype(np.uint8)
    assert found.predict(pixels, verbose=0) == pytest.approx(
        model.predict(pixels, verbose=0), abs=1e-6
    )


@pytest.mark.parametrize("shape", [(9000, 9000, 3), (28, 28, 4), (28,)])
def test_a_registry_cannot_ask_for_impossible_images(settings, tmp_path, shape):
    space = load_space("fnn-v2")
    model = space.build(space.baseline, (28, 28), 10)
    file = tmp_path / "model.keras"
    save_model(model, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    evil = Blueprint(
        space="fnn-v2", sources="", params=space.baseline, images=ImageForm(shape=shape)
    )
    with pytest.raises(DataError, match="no data set has images"):
        load_trained(file, digest, evil, settings)
