"""Data that moved."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from mnist_lab.config import SweepConfig
from mnist_lab.data import load_dataset
from mnist_lab.data.load import locate
from mnist_lab.errors import DataError
from mnist_lab.execution import TrialFiles
from mnist_lab.publish import make_figures
from mnist_lab.settings import Settings
from mnist_lab.spaces import get_space
from mnist_lab.study import find_dataset, load_original_dataset, make_record


@pytest.fixture
def home(tmp_path, small_file):
    """A home with its data below it, and the record of a study of them."""
    folder = tmp_path / "home"
    (folder / "data").mkdir(parents=True)
    shutil.copyfile(small_file, folder / "data" / "tiny.npz")
    dataset = load_dataset(str(folder / "data" / "tiny.npz"))
    config = SweepConfig(space="fnn")
    return folder, make_record("s", config, get_space("fnn"), dataset, home=folder)


def test_a_path_below_the_home_is_recorded_relative_to_it(home):
    assert home[1].dataset_source == "data/tiny.npz"


def test_data_of_a_moved_home_are_found(home, tmp_path):
    folder, record = home
    moved = folder.rename(tmp_path / "elsewhere")
    found = load_original_dataset(record, Settings(home=moved))
    assert found.source == str(moved / "data" / "tiny.npz")


def test_data_that_were_moved_inside_the_home_are_found(home):
    folder, record = home
    (folder / "old").mkdir()
    (folder / "data" / "tiny.npz").rename(folder / "old" / "tiny.npz")
    found = load_original_dataset(record, Settings(home=folder))
    assert found.digest == record.dataset_digest


def test_data_elsewhere_are_found_where_it_is_said(home, tmp_path):
    folder, record = home
    there = tmp_path / "usb.npz"
    (folder / "data" / "tiny.npz").rename(there)
    settings = Settings(home=folder)
    assert find_dataset(record, settings) is None
    with pytest.raises(DataError, match="--dataset PATH"):
        load_original_dataset(record, settings)
    assert load_original_dataset(record, settings, str(there)).digest == record.dataset_digest


def test_other_data_under_the_same_name_are_refused(home, tmp_path):
    folder, record = home
    other = tmp_path / "other.npz"
    shutil.copyfile(locate("mnist"), other)
    with pytest.raises(DataError, match="is not the data that the study was made with"):
        load_original_dataset(record, Settings(home=folder), str(other))


def test_names_that_look_like_patterns_are_names(home):
    folder, record = home
    (folder / "data" / "tiny.npz").rename(folder / "[z]*.npz")
    odd = replace(record, dataset_source="gone/[z]*.npz")
    assert find_dataset(odd, Settings(home=folder)) == str(folder / "[z]*.npz")


def test_the_figures_of_a_study_are_drawn_of_data_below_the_home(home, monkeypatch, tmp_path):
    folder, record = home
    monkeypatch.chdir(tmp_path)  # the recorded path is relative to the home, not to this folder
    figures = make_figures(Settings(home=folder), record, TrialFiles(tmp_path / "work"))
    assert figures._spec.dataset == str(folder / "data" / "tiny.npz")
