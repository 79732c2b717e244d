"""A registered model as MLflow's pyfunc, which ``serve`` serves."""

from __future__ import annotations

import base64
import io

import keras
import numpy as np
import pytest
from mlflow import pyfunc
from mlflow.exceptions import MlflowException
from PIL import Image

from mnist_lab.data import PICTURE, ImageForm
from mnist_lab.tracking.package import package_model

FORM = ImageForm(shape=(8, 8, 3), class_names=("dark", "light"), preparation=PICTURE)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """A model of brightness, packed and loaded as MLflow's server does it."""
    folder = tmp_path_factory.mktemp("served")
    pixels = keras.Input((8, 8, 3), dtype="uint8")
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixels))
    layer = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(pixels, layer(mean))
    layer.set_weights([np.array([[-4.0, 4.0]] * 3), np.array([6.0, -6.0])])
    model.save(folder / "model.keras")
    package_model(folder / "model.keras", folder / "package", FORM)
    return pyfunc.load_model(str(folder / "package"))


def encoded(colour):
    file = io.BytesIO()
    Image.new("RGB", (40, 20), colour).save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()


def test_it_takes_pictures_and_no_wrong_pixels(scorer):
    answers = scorer.predict(np.array([encoded("white"), encoded("black")]))
    assert [each["class"] for each in answers] == ["light", "dark"]
    assert list(answers[0]["probabilities"]) == ["dark", "light"]
    assert answers[0]["probability"] == answers[0]["probabilities"]["light"]
    with pytest.raises(MlflowException, match="no pixels divided by 255"):
        scorer.predict(np.full((1, 8, 8, 3), 0.3))


def test_pixels_divided_by_255_are_brought_back(scorer):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3))
    whole, shares = scorer.predict(pixels), scorer.predict(pixels / 255)
    assert whole == shares


def test_grey_pictures_of_a_colour_model_stay_colour_images(scorer):
    assert scorer.predict(np.full((1, 8, 8, 3), 200))[0]["class"] == "light"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((1, 8, 8)), r"expected \('N', 8, 8, 3\)"),
        (np.array(["no base64!"]), "not base64"),
        (np.array([base64.b64encode(b"no picture").decode()]), "Input 0 is no picture"),
        (np.full((1, 8, 8, 3), 300), r"expected pixels in \[0, 255\]"),
        (np.full((1, 8, 8, 3), 1), "0 and 1 only"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_would_do(scorer, inputs, message):
    with pytest.raises(MlflowException, match=message):
        scorer.predict(inputs)
