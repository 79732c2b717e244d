"""``import mnist_lab``: a facade over what the commands do."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import mnist_lab as lab
from mnist_lab.api import Model, Page
from mnist_lab.api.watch import watch
from mnist_lab.data import PICTURE, ImageForm
from mnist_lab.errors import ConfigurationError, DataError, UnknownNameError, UsageError
from mnist_lab.sweep import NewsKind, Progress
from mnist_lab.sweep.actions import News
from studies import make_study


@pytest.fixture
def trainer(monkeypatch):
    """Sweeps in this process, with a trainer that needs no Keras."""
    import mnist_lab.sweep

    real = mnist_lab.sweep.launch
    monkeypatch.setenv("KERAS_BACKEND", "none")
    monkeypatch.setattr("mnist_lab.execution.inline.configure", lambda _: None)
    monkeypatch.setattr(
        mnist_lab.sweep,
        "launch",
        lambda *words, **options: real(*words, trainer="fakes:run_trial", **options),
    )


@pytest.fixture
def swept(trainer, settings, small_file):
    return lab.sweep("fnn", trials=3, epochs=2, dataset=str(small_file), study="s",
                     executor="inline", home=settings.root)  # fmt: skip


def test_importing_it_imports_neither_keras_nor_mlflow():
    code = (
        "import mnist_lab, sys; print({'keras', 'mlflow', 'tensorflow', 'optuna'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_same_call_again_goes_on_to_the_new_total(swept, settings, small_file):
    assert len(swept.leaderboard) + sum(swept.frame()["state"] == "pruned") == 3
    again = lab.sweep("fnn", trials=5, epochs=2, dataset=str(small_file), study="s",
                      executor="inline", home=settings.root)  # fmt: skip
    assert again == swept
    assert len(again.frame()) == 5


def test_the_function_is_called_by_its_name_although_a_package_has_it_too(swept):
    from mnist_lab import sweep as package

    assert package is lab.sweep
    with pytest.raises(ConfigurationError, match="unknown key"):
        lab.sweep("fnn", trails=3)


def test_a_sweep_leaves_its_report(swept, settings):
    assert (settings.root / "reports" / "s.html").exists()
    page = swept.report()
    assert isinstance(page, Page)
    assert page._repr_html_().startswith("<iframe sandbox")


def test_a_study_shows_its_leaderboard_and_has_its_best(settings, small_dataset):
    make_study(settings, small_dataset, 30)
    study = lab.open_study("s", home=settings.root)
    html = study._repr_html_()
    assert html.count("<tr>") == 11
    assert "&lt;b&gt;silu" in html
    assert study.best.rank == 1
    assert repr(study).startswith("<Study s: 30 trials, best 0.9")


def test_every_trial_is_a_row_of_the_frame(settings, small_dataset):
    make_study(settings, small_dataset, 30)
    frame = lab.open_study(home=settings.root).frame()
    assert list(frame.index) == list(range(30))
    assert set(frame["state"]) == {"complete", "pruned", "failed"}
    assert {"value", "epochs", "params_units", "params_activation"} <= set(frame.columns)


def test_a_study_explains_itself_as_markdown(settings, small_dataset):
    make_study(settings, small_dataset, 12)
    text = lab.open_study(home=settings.root).explain()
    assert text._repr_markdown_() == text
    assert text.startswith("# s\n")


def test_trials_are_compared_image_by_image(settings, small_dataset):
    make_study(settings, small_dataset, 12, kept=3)
    study = lab.open_study(home=settings.root)
    first, second = (row.trial for row in study.leaderboard[:2])
    assert study.compare(first, second).pairs[0].first == first
    assert study.mistakes().images == 120


def test_a_study_that_is_not_there_is_named(settings):
    with pytest.raises(UnknownNameError, match="no study"):
        lab.open_study("nowhere", home=settings.root)
    assert lab.studies(home=settings.root) == []


def test_what_was_not_confirmed_is_not_promoted(settings, small_dataset):
    make_study(settings, small_dataset, 12)
    with pytest.raises(UsageError, match=r"Call first: study.confirm\(\)"):
        lab.open_study(home=settings.root).promote()


def test_an_impossible_ensemble_is_refused_with_the_range(settings, small_dataset):
    make_study(settings, small_dataset, 12)
    with pytest.raises(UsageError, match="ensemble is 10; it must be 1 to 9"):
        lab.open_study(home=settings.root).promote(ensemble=10)


def test_a_space_of_this_session_is_refused_with_the_way_to_bring_it(settings):
    def build(trial, input_shape, classes):
        return None

    build.__module__ = "__main__"
    with pytest.raises(UsageError, match="%%writefile"):
        lab.sweep(build, home=settings.root)


def test_a_function_in_a_file_is_named_by_its_file(strangers):
    from mnist_lab.api.run import _reference

    module = SimpleNamespace(__name__="theirs", __file__=str(strangers))
    sys.modules["theirs"] = module
    try:
        space = SimpleNamespace(__name__="build", __module__="theirs")
        assert _reference(space) == f"{strangers}:build"
    finally:
        del sys.modules["theirs"]


class TestModel:
    @pytest.fixture
    def model(self):
        """A model that answers by brightness."""
        form = ImageForm(shape=(8, 8), class_names=("dark", "light"), preparation=PICTURE)
        network = SimpleNamespace(
            predict=lambda pixels, verbose: np.stack(
                [1 - pixels.mean((1, 2)) / 255, pixels.mean((1, 2)) / 255], axis=1
            )
        )
        return Model("m/1", form, network)

    def test_it_answers_with_names_for_arrays_and_shares(self, model):
        images = np.stack([np.full((8, 8), shade, np.uint8) for shade in (250, 10)])
        assert model.predict(images) == ["light", "dark"]
        assert model.predict(images / 255) == ["light", "dark"]

    def test_it_takes_files(self, model, tmp_path):
        from PIL import Image

        Image.new("L", (40, 40), 240).save(tmp_path / "a.png")
        assert model.predict([str(tmp_path / "a.png")]) == ["light"]

    def test_it_refuses_what_is_of_another_shape(self, model):
        with pytest.raises(DataError, match="expected"):
            model.predict(np.zeros((1, 28, 28), np.uint8))


def test_a_notebook_gets_one_display_that_changes(monkeypatch):
    shown = []
    handle = SimpleNamespace(update=lambda html: shown.append(html.data))
    monkeypatch.setattr("mnist_lab.api.watch.in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    with watch() as watcher:
        watcher.announce("mnist: 10 classes <here>")
        watcher.listener(
            Progress(
                study="s", total=4, epochs=3, complete=1, pruned=0, failed=1, best=(0, 0.9),
                running={2: None}, seconds_left=60.0,
                news=News(NewsKind.FAILED, "trial 1 failed: diverged"),
            )
        )  # fmt: skip
    assert "&lt;here&gt;" in shown[0]
    assert "trial 1 failed: diverged" in shown[-1]
    assert '<progress max="3" value="0">' in shown[-1]
