"""Sweeps of spaces that ask, with real Keras: what is asked for is searched, recorded and repeated."""

from __future__ import annotations

import re

import optuna
import pytest

from mnist_lab.config import SweepConfig
from mnist_lab.errors import ConfigurationError, InvalidParamsError, UnknownNameError, UsageError
from mnist_lab.publish import connect_mlflow
from mnist_lab.publish.writer import NoFigures
from mnist_lab.report import list_studies
from mnist_lab.study import Design, confirm_name, open_study
from mnist_lab.sweep import confirm, launch, reproduce
from mnist_lab.tracking import NullTracker


@pytest.fixture
def sweep(settings, small_file, strangers):
    def sweep(name, *, file=strangers, tracked=False, **changes):
        config = {
            "space": f"{file}:{name}",
            "trials": 4,
            "epochs": 1,
            "dataset": str(small_file),
            "study": "s",
            "executor": "inline",
        }
        result = launch(
            SweepConfig(**{**config, **changes}),
            settings,
            make_tracker=connect_mlflow if tracked else lambda *_: NullTracker(),
            make_figures=lambda *_: NoFigures(),
        )
        return result, open_study(settings, result.study)

    return sweep


def params(study):
    return [trial.params for trial in study.trials()]


def test_what_a_loop_asks_for_is_searched_and_the_first_trial_has_the_defaults(sweep):
    result, study = sweep("Loops", trials=8)
    assert (result.finished, result.reasons) == (8, {})
    for point in params(study):
        units = [name for name in point if name.startswith("units_")]
        assert units == [f"units_{i}" for i in range(point["num_layers"])]
    assert params(study)[0] == {"num_layers": 1, "units_0": 8, "lr": 1e-3}
    assert study.trial(0).baseline
    assert {point["num_layers"] for point in params(study)} == {1, 2, 3}


@pytest.mark.slow
def test_a_resumed_study_asks_and_answers_as_an_uninterrupted_one(sweep):
    sweep("Loops", trials=2)
    _, parts = sweep("Loops", trials=5)
    _, whole = sweep("Loops", trials=5, study="whole")
    assert params(parts) == params(whole)
    assert [list(point) for point in params(parts)] == [list(point) for point in params(whole)]


@pytest.mark.slow
def test_one_name_in_two_scopes_is_two_parameters_of_the_study(sweep):
    _, study = sweep("TwoBranches", trials=6)
    names = {name for point in params(study) for name in point}
    assert names == {"kind", "units", "units.kind.large"}
    for point in params(study):
        width = point.get("units", point.get("units.kind.large"))
        assert (width <= 4) == (point["kind"] == "small")


@pytest.mark.slow
def test_a_parameter_that_is_set_is_kept_in_every_trial(sweep):
    _, study = sweep("Loops", set={"num_layers": 2, "lr": "0.002"})
    assert {point["num_layers"] for point in params(study)} == {2}
    assert {point["lr"] for point in params(study)} == {0.002}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"set": {"num_layrs": 2}}, UnknownNameError, "Did you mean 'num_layers'"),
        ({"set": {"num_layers": 9}}, InvalidParamsError, "--set num_layers=9 is outside 1 to 3"),
        ({"grid": {"nope": [1]}, "sampler": "grid"}, UnknownNameError, "no parameter 'nope'"),
        ({"grid": {"units_2": [99]}, "sampler": "grid"}, InvalidParamsError, "--grid units_2=99"),
        ({"grid": {"units_2": [8]}}, UsageError, "Add: --sampler grid"),
    ],
)
def test_what_is_set_wrongly_is_refused_before_anything_is_trained(sweep, changes, error, message):
    with pytest.raises(error, match=message):
        sweep("Loops", **changes)


@pytest.mark.slow
def test_a_set_that_was_refused_may_be_mended_under_the_same_name(sweep):
    with pytest.raises(InvalidParamsError):
        sweep("Loops", set={"num_layers": 9})
    result, _ = sweep("Loops", set={"num_layers": 3}, trials=1)
    assert result.finished == 1


@pytest.mark.slow
def test_a_grid_has_its_values_and_the_defaults(sweep):
    grid = {"num_layers": [1, 2], "units_0": [8, 16]}
    result, study = sweep("Loops", sampler="grid", grid=grid, trials=10)
    assert result.finished == 5  # the defaults come first
    assert [(point["num_layers"], point["units_0"]) for point in params(study)[1:]] == [
        (1, 8), (1, 16), (2, 8), (2, 16),
    ]  # fmt: skip
    assert {point["lr"] for point in params(study)} == {1e-3}


@pytest.mark.slow
def test_a_queued_point_is_tried_and_one_that_does_not_fit_fails_alone(sweep, settings):
    sweep("Loops", trials=1)
    study = optuna.load_study(study_name="s", storage=settings.storage)
    study.enqueue_trial({"num_layers": 3, "units_2": 24})
    study.enqueue_trial({"num_layers": 3, "units_2": 1000})
    result, study = sweep("Loops", trials=4)
    first, second = study.trials()[1:3]
    assert (first.params["num_layers"], first.params["units_2"]) == (3, 24)
    assert result.reasons == {"invalid": 1}
    assert "units_2=1000 is outside 8 to 32" in second.detail


@pytest.mark.slow
def test_what_is_wrong_with_every_trial_is_said_once_and_the_mended_file_is_swept(
    sweep, tmp_path, strangers, settings
):
    file = tmp_path / "mine.py"
    text = strangers.read_text()
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"not compiled.*Nothing was trained"):
        sweep("not_compiled", file=file)
    broken = "    return keras.Sequential([layers.Flatten(), layers.Dense(10)])\n"
    assert broken in text
    file.write_text(text.replace(broken, "    return dense()\n", 1))
    assert list_studies(settings) == []
    result, study = sweep("not_compiled", file=file, trials=1)
    assert (result.finished, study.count()) == (1, 1)


@pytest.mark.slow
def test_a_file_that_changed_is_refused_by_name_when_its_study_goes_on(sweep, tmp_path, strangers):
    file = tmp_path / "mine.py"
    file.write_text(strangers.read_text())
    sweep("no_scaling", file=file, trials=1)
    file.write_text(strangers.read_text() + "\n# another\n")
    with pytest.raises(
        ConfigurationError, match=r"mine\.py:no_scaling, or a file beside it, has changed"
    ):
        sweep("no_scaling", file=file, trials=2)


@pytest.mark.slow
def test_replicas_have_the_parameters_of_what_they_repeat(sweep, settings):
    sweep("TwoBranches", trials=4)
    _, confirmation = confirm(settings, "s", Design(top=2), workers=1)
    study, replicas = open_study(settings, "s"), open_study(settings, confirm_name("s"))
    assert replicas.count() == 3
    for replica in replicas.trials():
        assert replica.params == study.trial(replica.replica_of).params
    assert confirmation is not None


@pytest.mark.slow
def test_a_trial_is_trained_again_from_its_record(sweep, settings):
    sweep("Loops", trials=3, epochs=2, pruner="none")
    study = open_study(settings, "s")
    done = reproduce(study, study.trial(2), settings)
    assert done.outcome == "bit-exact"


@pytest.mark.slow
def test_what_fit_asks_for_is_searched_too(sweep):
    result, study = sweep("PlainFit", trials=3, epochs=2)
    assert (result.finished, result.reasons) == (3, {})
    assert all(set(point) == {"batch_size", "shuffle"} for point in params(study))


@pytest.mark.slow
def test_how_a_model_takes_its_data_is_in_the_record(sweep, client):
    _, study = sweep("own_rescaling", tracked=True, trials=1)
    assert study.trial(0).form["scale"] == 1.0
    experiment = client.get_experiment_by_name("mnist-lab/tiny-own-rescaling")
    runs = client.search_runs([experiment.experiment_id], "tags.`mnist_lab.level` = 'trial'")
    assert runs[0].data.tags["mnist_lab.form.images"] == "float32 (28, 28), 0 to 255"


@pytest.mark.slow
def test_the_parameters_of_every_trial_are_in_mlflow(sweep, client):
    _, study = sweep("Loops", tracked=True, trials=3)
    experiment = client.get_experiment_by_name("mnist-lab/tiny-Loops")
    runs = client.search_runs([experiment.experiment_id], "tags.`mnist_lab.level` = 'trial'")
    found = {int(run.data.tags["mnist_lab.trial"]): run.data.params for run in runs}
    for trial in study.trials():
        assert found[trial.number] == {name: str(value) for name, value in trial.params.items()}


@pytest.mark.slow
def test_names_of_studies_are_those_that_a_file_gives(sweep, settings):
    result, _ = sweep("build", trials=1, study=None)
    assert re.fullmatch(r"tiny-strangers-v1-1ep", result.study)
