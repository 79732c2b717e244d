"""Figures that are drawn in a process of their own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from fakes import epoch_metrics
from mnist_lab.evaluation.drawing import save_predictions
from mnist_lab.execution.figures import FigureProcess, FigureSpec


@pytest.fixture
def spec(small_file, small_dataset, tmp_path):
    return FigureSpec(
        dataset=str(small_file),
        digest=small_dataset.digest,
        data_folder=tmp_path,
        log=tmp_path / "figures.log",
    )


@pytest.fixture
def artist(spec):
    made = FigureProcess(spec)
    yield made
    made.close()


def leave_predictions(folder, dataset, **changes):
    folder.mkdir()
    labels = changes.get("labels", dataset.validation.labels)
    probabilities = np.full((len(labels), 10), 0.05, np.float32)
    probabilities[np.arange(len(labels)), labels] = 0.55
    save_predictions(folder / "predictions.npz", probabilities, [epoch_metrics(1, 0.5)])


def test_what_a_trial_left_is_drawn_and_dropped(artist, tmp_path, small_dataset):
    leave_predictions(tmp_path / "trial", small_dataset)
    artist.draw(tmp_path / "trial")
    drawn = sorted(path.name for path in (tmp_path / "trial/artifacts/figures").iterdir())
    assert drawn == [
        "confusion_matrix.png",
        "curves.png",
        "mistakes.png",
        "precision_recall.png",
        "reliability.png",
        "roc.png",
    ]
    assert not (tmp_path / "trial/predictions.npz").exists()


def test_where_nothing_was_left_no_process_is_started(artist, tmp_path):
    artist.draw(tmp_path)
    assert artist._process is None


def test_a_drawing_that_fails_costs_its_figures_only(artist, tmp_path, small_dataset):
    leave_predictions(tmp_path / "bad", small_dataset, labels=np.zeros(3, np.uint8))
    artist.draw(tmp_path / "bad")
    assert "Traceback" in (tmp_path / "figures.log").read_text()
    leave_predictions(tmp_path / "good", small_dataset)
    artist.draw(tmp_path / "good")
    assert (tmp_path / "good/artifacts/figures/roc.png").exists()


def test_no_figure_is_drawn_of_other_data_than_the_trials_had(spec, tmp_path, small_dataset):
    leave_predictions(tmp_path / "trial", small_dataset)
    with closing(FigureProcess(replace(spec, digest="another"))) as artist:
        artist.draw(tmp_path / "trial")
    assert not (tmp_path / "trial/artifacts/figures").exists()
    assert "is not the data that the trials were trained on" in spec.log.read_text()


@pytest.mark.slow
def test_an_artist_that_was_killed_is_followed_by_another(artist, tmp_path, small_dataset):
    leave_predictions(tmp_path / "one", small_dataset)
    artist.draw(tmp_path / "one")
    artist._process.kill()
    artist._process.join()
    leave_predictions(tmp_path / "two", small_dataset)
    artist.draw(tmp_path / "two")
    assert (tmp_path / "two/artifacts/figures/roc.png").exists()


def test_closing_the_artist_ends_a_drawing_that_another_thread_waits_for(
    artist, tmp_path, small_dataset
):
    leave_predictions(tmp_path / "trial", small_dataset)
    with ThreadPoolExecutor() as others:
        drawing = others.submit(artist.draw, tmp_path / "trial")
        time.sleep(0.3)  # its process is only importing
        artist.close()
        with pytest.raises(ConnectionAbortedError):
            drawing.result(timeout=120)


def test_an_artist_that_was_closed_says_that_it_draws_no_more(artist, tmp_path, small_dataset):
    artist.close()
    artist.draw(tmp_path)  # nothing is there to be drawn
    leave_predictions(tmp_path / "trial", small_dataset)
    with pytest.raises(ConnectionAbortedError):
        artist.draw(tmp_path / "trial")
    assert (tmp_path / "trial/predictions.npz").exists()
