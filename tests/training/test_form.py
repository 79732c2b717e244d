"""Each model of ``strangers.py``: how it is found to take images and labels, and that it learns."""

from __future__ import annotations

import io
import re
import zipfile

import h5py
import keras
import numpy as np
import pytest

from mnist_lab.data.dataset import make_split
from mnist_lab.errors import ConfigurationError
from mnist_lab.spaces.asking import Answers
from mnist_lab.spaces.question import answer_default
from mnist_lab.spaces.registry import load_space
from mnist_lab.training import TrainingPlan, around, find_form, train
from mnist_lab.training.form import PLAIN, UNIT, ModelForm
from mnist_lab.training.saving import REBUILT, save_model


@pytest.fixture
def author(strangers):
    def open_(name, ask=answer_default):
        return load_space(f"{strangers}:{name}").open(Answers(ask=ask))

    return open_


@pytest.fixture
def find(author, small_dataset):
    def find(name):
        opened = author(name)
        return find_form(
            lambda: opened.build((28, 28), 10), small_dataset.train, 10, fit=opened.fit
        )

    return find


@pytest.mark.only_by_default(
    "no_scaling-expected0",
    "own_rescaling-expected1",
    "logits_in_a_function-expected3",
    "subclassed-expected17",
    "OwnLoop-expected20",
    "dense_on_784-expected15",
)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_scaling", {"scale": UNIT, "shape": (28, 28), "whole_labels": True}),
        ("own_rescaling", {"scale": 1.0}),
        ("own_normalization", {"scale": 1.0}),
        ("logits_in_a_function", {"output": "logits", "whole_labels": False}),
        ("logits_in_an_object", {"output": "logits", "whole_labels": True}),
        ("sigmoids", {"output": "shares", "accuracy": "categorical_accuracy"}),
        ("several_metrics", {"accuracy": "accuracy", "validates": True}),
        ("no_metric", {"accuracy": "", "validates": False}),
        ("another_accuracy", {"accuracy": "", "validates": False}),
        ("zero_logits", {"output": "logits"}),
        ("recurrent", {"scale": 1.0}),
        ("binarised", {"scale": 1.0}),
        ("tokens", {"scale": 1.0}),
        ("silent_about_labels", {"whole_labels": True, "output": "logits"}),
        ("convolution_without_input", {"shape": (28, 28, 1), "whole_labels": False}),
        ("dense_on_784", {"shape": (784,), "accuracy": "acc"}),
        ("augmented", {"shape": (28, 28, 1), "scale": UNIT}),
        ("subclassed", {"output": "logits", "shape": (28, 28)}),
        ("own_train_step", {"validates": False, "accuracy": "accuracy", "whole_labels": True}),
        ("PlainFit", {"validates": False, "accuracy": "accuracy"}),
        ("OwnLoop", {"validates": False, "accuracy": "", "output": "logits"}),
        ("KnownArguments", {"shape": (28, 28, 1)}),
    ],
)
def test_the_form_of_a_strangers_model_is_found(find, name, expected):
    form = find(name)
    assert {key: getattr(form, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not_compiled", "not compiled.*model.compile"),
        ("three_classes", r"\(48, 10\)"),
        ("two_outputs", "has 2 outputs"),
        ("colour", r"\(32, 32, 3\).*\(28, 28\)"),
        ("Silent", "never calls the callbacks"),
        ("OwnEpochs", "sets 'epochs' itself"),
        ("objective", "must not call trial.report"),
        ("odd_choices", "optimizer has the choice .* no study can record.*look the object up"),
        ("old_words", r"trial\.suggest_uniform is not known.*suggest_float"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_with_what_would_help(find, name, message):
    with pytest.raises(ConfigurationError) as refused:
        find(name)
    assert re.search(message, str(refused.value))


def fitted(author, form, dataset, **plan):
    keras.utils.set_random_seed(1)
    model = author.build((28, 28), 10)
    model(form.feed(dataset.train.images[:1]))
    history = train(
        model,
        training=dataset.train,
        validation=dataset.validation,
        plan=TrainingPlan(**{"epochs": 3, "batch_size": 32, "seed": 1, **plan}),
        form=form,
    )
    return model, history


@pytest.mark.only_by_default("own_rescaling", "no_metric")
@pytest.mark.parametrize(
    "name",
    [
        "no_scaling",
        "own_rescaling",
        "sigmoids",
        "subclassed",
        "no_metric",
        "own_train_step",
        "zero_logits",
        "another_accuracy",
    ],
)
def test_its_figures_are_those_of_its_predictions(author, find, small_dataset, name):
    form = find(name)
    model, history = fitted(author(name), form, small_dataset)
    whole = around(model, form, (28, 28))
    found = whole.predict(small_dataset.validation.images, verbose=0)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(found)), abs=1e-5)
    right = float((found.argmax(axis=1) == small_dataset.validation.labels).mean())
    assert right == pytest.approx(history.best.val_accuracy, abs=1e-6)
    assert history.epochs[-1].loss < history.epochs[0].loss


def test_an_own_train_step_is_the_one_that_trains(author, find, small_dataset):
    model, _ = fitted(author("own_train_step"), find("own_train_step"), small_dataset, epochs=2)
    assert float(model.steps) >= 2


def test_training_sees_logits_and_the_softmax_stands_behind(author, find, small_dataset):
    form = find("logits_in_an_object")
    model, _ = fitted(author("logits_in_an_object"), form, small_dataset, epochs=1)
    images = small_dataset.validation.images[:4]
    logits = model.predict(np.asarray(form.feed(images)), verbose=0)
    probabilities = around(model, form, (28, 28)).predict(images, verbose=0)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert probabilities == pytest.approx(shares, abs=1e-5)


def test_numpys_choices_become_pythons(author):
    asked = []
    author("numpys_choices", lambda each: asked.append(each) or each.default).build((28, 28), 10)
    assert asked[0].distribution.choices == (4, 8)


def test_a_form_survives_json_and_a_newer_version(find):
    form = find("sigmoids")
    assert ModelForm.from_dict({**form.to_dict(), "newer": 1}) == form
    assert form.facts()["output"] == "shares, divided by their sum"


def test_nothing_is_put_around_a_model_that_keeps_our_promise():
    model = object()
    assert around(model, PLAIN, (28, 28)) is model
    assert PLAIN.facts()["images"] == "raw pixels"


def test_a_compiled_model_is_saved_without_its_optimizer(author, find, tmp_path):
    form, opened = find("convolution_without_input"), author("convolution_without_input")
    model = opened.build((28, 28), 10)
    model(form.feed(np.zeros((1, 28, 28), np.uint8)))
    save_model(around(model, form, (28, 28)), tmp_path / "model.keras")
    assert model.compiled
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.predict(np.zeros((2, 28, 28), np.uint8), verbose=0).shape == (2, 10)
    archive = zipfile.ZipFile(tmp_path / "model.keras")
    assert "optimizer" not in archive.read("config.json").decode()
    with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        found: list[str] = []
        weights.visit(found.append)
    assert not [each for each in found if "optimizer" in each]


def test_a_class_that_keras_cannot_describe_is_saved_as_its_weights(author, find, tmp_path):
    form, opened = find("subclassed"), author("subclassed")
    model = opened.build((28, 28), 10)
    model(form.feed(np.zeros((1, 28, 28), np.uint8)))
    save_model(around(model, form, (28, 28)), tmp_path / "model.keras")
    assert REBUILT in zipfile.ZipFile(tmp_path / "model.keras").read("config.json").decode()


@pytest.mark.parametrize("shape", [(16, 16, 3), (None, None, 3), (768,)])
def test_a_strangers_model_of_colour_images_is_found(shape):
    random = np.random.default_rng(0)
    split = make_split(
        random.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8),
        random.integers(0, 3, 64).astype(np.uint8),
    )

    def build():
        inputs = keras.Input(shape)
        pool = keras.layers.GlobalAveragePooling2D() if len(shape) == 3 else lambda x: x
        model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(pool(inputs)))
        model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
        return model

    form = find_form(build, split, 3, raw=False)
    assert np.prod(form.shape) == 768


def test_a_model_of_other_pictures_is_refused_with_the_shapes_of_the_data():
    split = make_split(np.zeros((8, 16, 16, 3), np.uint8), np.zeros(8, np.uint8))

    def build():
        return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])

    with pytest.raises(ConfigurationError) as caught:
        find_form(build, split, 2, raw=False)
    assert "the data have (16, 16, 3)" in str(caught.value)
    assert "(16, 16, 3) or (768,)" in str(caught.value)
