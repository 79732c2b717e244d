"""Whole sweeps: real study, real MLflow, real processes; real Keras in one test."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mnist_lab.config import SweepConfig
from mnist_lab.doctor import examine
from mnist_lab.errors import ConfigurationError, MnistLabError
from mnist_lab.settings import Settings
from mnist_lab.study import open_study
from mnist_lab.study.open import study_names
from mnist_lab.sweep import launch
from mnist_lab.tracking import NullTracker


@pytest.fixture
def run(settings, small_file, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "none")  # the fake trainer needs no TensorFlow

    def run(**changes):
        fields = {
            "space": "fnn",
            "trials": 4,
            "epochs": 2,
            "dataset": str(small_file),
            "study": "s",
            "pruner": "none",
        }
        options = {key: changes.pop(key) for key in ("make_tracker", "listener") if key in changes}
        trainer = changes.pop("trainer", "fakes:run_trial")
        return launch(SweepConfig(**{**fields, **changes}), settings, trainer=trainer, **options)

    return run


def children(client, study):
    experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn")
    runs = client.search_runs(
        [experiment.experiment_id], f"tags.`mnist_lab.study` = '{study}'", max_results=1000
    )
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    return parents, [each for each in runs if each not in parents]


def test_mlflow_equals_the_study_after_a_sweep(run, client, settings):
    result = run(trials=6, pruner="none")
    parents, trials = children(client, "s")
    study = open_study(settings, "s")
    assert result.finished == study.count() == len(trials) == 6
    assert [each.info.status for each in parents] == ["FINISHED"]
    by_number = {int(each.data.tags["mnist_lab.trial"]): each for each in trials}
    for trial in study.trials():
        told = by_number[trial.number]
        assert told.info.run_id == study.find_run(trial.number)
        assert told.info.status == "FINISHED"
        assert told.data.metrics["best_val_accuracy"] == pytest.approx(trial.value)
        assert told.data.params == {key: str(value) for key, value in trial.params.items()}
        history = client.get_metric_history(told.info.run_id, "val_accuracy")
        assert {p.step: p.value for p in history} == pytest.approx(
            study.study.trials[trial.number].intermediate_values
        )


SPACE_WITH_A_START = """
from optuna.distributions import FloatDistribution
from mnist_lab.spaces import search_space

@search_space(
    name="slow-starter",
    version=1,
    description="the baseline and the start are the worst that there is",
    distributions={"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)},
    defaults={"learning_rate": 1e-4},
    starts=({"learning_rate": 1e-1},),
)
def slow_starter(params, input_shape, classes):
    raise NotImplementedError
"""


def test_the_baseline_and_the_starts_are_trained_to_their_end_and_others_are_not(run, settings):
    (settings.root / "space.py").write_text(SPACE_WITH_A_START)
    run(space=f"{settings.root / 'space.py'}:slow_starter", trials=12, epochs=3, pruner="halving")
    trials = open_study(settings, "s").trials()
    epochs = [len(trial.history) for trial in trials]
    assert epochs[:2] == [3, 3]
    assert 1 in epochs[2:]


@pytest.mark.slow
def test_the_supervisor_never_imports_keras(settings, small_file):
    program = (
        "import sys\n"
        "from mnist_lab.settings import Settings\n"
        "from mnist_lab.config import SweepConfig\n"
        "from mnist_lab.sweep import launch\n"
        "if __name__ == '__main__':\n"
        "    launch(SweepConfig(space='fnn', trials=2, epochs=1, dataset=sys.argv[1]), Settings(),\n"
        "           trainer='fakes:run_trial')\n"
        "    assert not {'keras', 'tensorflow'} & set(sys.modules), 'Keras was imported'\n"
    )
    script = settings.root / "program.py"
    script.write_text(program)
    here = os.path.dirname(__file__)
    environment = {**os.environ, "KERAS_BACKEND": "none", "PYTHONPATH": os.path.dirname(here)}
    done = subprocess.run(
        [sys.executable, str(script), str(small_file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_parameters_that_are_set_hold_in_every_trial(run, settings):
    run(trials=4, set={"hidden_layers": 1, "optimizer": "adam"})
    trials = open_study(settings, "s").trials()
    assert {trial.params["hidden_layers"] for trial in trials} == {1}
    assert {trial.params["optimizer"] for trial in trials} == {"adam"}


def test_a_grid_is_the_baseline_and_its_points(run, settings):
    result = run(trials=50, sampler="grid", grid={"units_1": [32, 64], "dropout": [0.0, 0.5]})
    trials = open_study(settings, "s").trials()
    assert len(trials) == 5
    assert {(t.params["units_1"], t.params["dropout"]) for t in trials[1:]} == {
        (32, 0.0), (32, 0.5), (64, 0.0), (64, 0.5),
    }  # fmt: skip
    assert (result.finished, result.total, result.stopped) == (5, 5, None)


def test_a_grid_with_other_values_adds_the_points_that_are_new(run, settings):
    run(trials=50, sampler="grid", grid={"units_1": [64, 128]})
    result = run(trials=50, sampler="grid", grid={"units_1": [32, 64, 128]})
    units = [trial.params["units_1"] for trial in open_study(settings, "s").trials()]
    assert sorted(units[1:]) == [32, 64, 128]
    assert (result.finished, result.total) == (4, 4)


def test_a_grid_is_trained_as_far_as_trials_were_asked_for(run, settings):
    grid = {"units_1": [32, 64, 128]}
    assert run(trials=2, sampler="grid", grid=grid).finished == 2
    assert run(trials=50, sampler="grid", grid=grid).finished == 4


def move_database(folder, name, other):
    """Move a SQLite file and what SQLite keeps beside it as long as this process has it open."""
    for file in folder.glob(f"{name}*"):
        file.rename(folder / file.name.replace(name, other))


@pytest.mark.slow
def test_files_of_a_study_in_another_storage_are_put_aside_and_named(run, settings):
    run(trials=1)
    first = open_study(settings, "s").record.id
    checkpoint = settings.work / "s" / "trial-0009" / "checkpoints" / "a"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("an epoch")
    move_database(settings.root, "optuna.db", "elsewhere.db")
    run(trials=1)
    aside = settings.work / f"s.{first[:8]}"
    assert (aside / checkpoint.relative_to(settings.work / "s")).read_text() == "an epoch"
    assert str(aside) in [each.subject for each in examine(settings)]
    move_database(settings.root, "optuna.db", "another.db")
    move_database(settings.root, "elsewhere.db", "optuna.db")
    run(trials=1)
    assert checkpoint.read_text() == "an epoch"


@pytest.mark.parametrize("name", ["optuna", "mlflow"])
def test_no_name_of_a_study_is_that_of_another_lock(run, name):
    assert run(trials=1, study=name).finished == 1


def test_a_study_with_another_epoch_count_is_refused_before_anything_is_trained(run, settings):
    run(trials=1)
    with pytest.raises(ConfigurationError, match="epochs 3"):
        run(trials=2, epochs=3)
    assert open_study(settings, "s").count() == 1


@pytest.mark.parametrize(
    "changes", [{"sampler": "nope"}, {"pruner": "nope"}, {"space": "nope"}, {"set": {"nope": 1}}]
)
def test_a_wrong_name_is_refused_before_a_study_exists(run, changes, settings):
    with pytest.raises(MnistLabError, match="nope"):
        run(**changes)
    assert study_names(settings) == []


def test_another_tracker_can_be_given(run, client):
    result = run(trials=2, make_tracker=lambda *_: NullTracker())
    assert result.finished == 2
    assert client.get_experiment_by_name("mnist-lab/tiny-fnn") is None


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_workers_are_told_the_precision_of_the_settings(
    settings, small_file, monkeypatch, precision
):
    monkeypatch.setenv("KERAS_BACKEND", "none")
    config = SweepConfig(space="fnn", trials=1, epochs=1, dataset=str(small_file), study="s")
    told = Settings(home=settings.home, precision=precision)
    launch(config, told, make_tracker=lambda *_: NullTracker(), trainer="fakes:run_telling_trial")
    assert open_study(settings, "s").trial(0).environment == {"precision": precision}
