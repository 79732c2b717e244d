from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from mnist_lab.errors import ConfigurationError, UnknownNameError
from mnist_lab.spaces import get_space, list_spaces, registry
from mnist_lab.spaces.registry import load_space

SPACE_FILE = """
from optuna.distributions import IntDistribution
from mnist_lab.spaces import search_space

@search_space(
    name="wide",
    version=2,
    description="one wide layer",
    distributions={"units": IntDistribution(16, 4096, log=True)},
    defaults={"units": 1024},
)
def wide(params, input_shape, classes):
    import keras
    model = keras.Sequential([
        keras.Input(input_shape, dtype="uint8"),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dense(params["units"], activation="relu"),
        keras.layers.Dense(classes, activation="softmax"),
    ])
    model.compile("adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model

not_a_space = 3
"""


@pytest.fixture
def space_file(tmp_path):
    path = tmp_path / "my_space.py"
    path.write_text(SPACE_FILE)
    return path


@pytest.fixture
def entry_points(monkeypatch):
    """Pretend that an installed package offers entry points."""

    def offer(*entries):
        monkeypatch.setattr(registry, "entry_points", lambda group: entries)
        list_spaces.cache_clear()

    yield offer
    list_spaces.cache_clear()


def test_the_families_are_listed_by_versioned_id():
    assert list(list_spaces())[:4] == ["fnn-v1", "fnn-v2", "cnn-v1", "cnn-v2"]


@pytest.mark.parametrize(("name", "found"), [("cnn", "cnn-v2"), ("cnn-v1", "cnn-v1")])
def test_a_space_is_found_by_name_and_by_version(name, found):
    assert get_space(name).id == found


def test_an_unknown_space_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'cnn'"):
        get_space("cmn")


def test_a_space_in_a_file_is_read_without_running_it_here(space_file):
    space = get_space(f"{space_file}:wide")
    assert (space.id, space.baseline) == ("wide-v2", {"units": 1024})
    assert space.reference == f"{space_file}:wide"


def test_a_space_from_a_file_builds_in_the_process_that_asks(space_file):
    model = get_space(f"{space_file}:wide").build({"units": 16}, (28, 28), 10)
    assert model.output_shape == (None, 10)


def test_a_file_and_its_description_have_one_digest(space_file):
    reference = f"{space_file}:wide"
    assert load_space(reference).digest == get_space(reference).digest


@pytest.mark.parametrize(
    ("name", "message"), [("not_a_space", "is a int, not a search space"), ("wdie", "'wide'")]
)
def test_a_file_without_that_space_is_refused(space_file, name, message):
    with pytest.raises(ConfigurationError, match=message):
        get_space(f"{space_file}:{name}")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="no space file"):
        get_space(f"{tmp_path}/none.py:space")


def test_a_package_adds_a_space_by_an_entry_point(entry_points, space_file, monkeypatch):
    monkeypatch.syspath_prepend(space_file.parent)
    entry_points(EntryPoint("wide", "my_space:wide", "mnist_lab.spaces"))
    assert get_space("wide").id == "wide-v2"


def test_two_spaces_of_one_id_are_refused(entry_points):
    entry_points(EntryPoint("again", "mnist_lab.spaces.cnn:cnn_v1", "mnist_lab.spaces"))
    with pytest.raises(ConfigurationError, match="cnn-v1, which exists"):
        list_spaces()


def test_the_newest_version_answers_to_the_bare_name(entry_points, monkeypatch):
    newer = registry.SearchSpace(**{**vars(get_space("cnn-v1")), "version": 7})
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, newer))
    entry_points()
    assert get_space("cnn").id == "cnn-v7"
    assert get_space("cnn-v1").id == "cnn-v1"
