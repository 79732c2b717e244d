"""One job through real Keras, on few images."""

from __future__ import annotations

import dataclasses
import json

import keras
import pytest

from mnist_lab.evaluation.drawing import draw
from mnist_lab.execution import TrialFailed, TrialFinished, TrialJob
from mnist_lab.execution.trial import run_trial
from mnist_lab.spaces import get_space


def make_job(folder, name="fnn", **changes):
    space = get_space(name)
    small = {"filters_1": 8, "dense_units": 32} if name == "cnn" else {"units_1": 32}
    fields = {
        "trial": 7,
        "study": "s",
        "space": space.reference,
        "space_digest": space.digest,
        "params": space.point(small),
        "epochs": 2,
        "seed": 5,
        "folder": str(folder),
    }
    return TrialJob(**{**fields, **changes})


@pytest.fixture(scope="module")
def done(small_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    result = run_trial(make_job(folder, "cnn"), small_dataset, lambda _: None)
    return result, folder


def test_a_trial_ends_with_its_final_numbers(done):
    result, _ = done
    assert isinstance(result, TrialFinished)
    expected = {"best_val_accuracy", "best_val_loss", "best_epoch", "fit_seconds", "parameters"}
    expected |= {"latency_ms"}
    assert expected | {"val_auroc_macro", "val_cross_entropy"} <= set(result.scalars)
    assert result.scalars["best_epoch"] == result.best_epoch


def test_a_trial_leaves_every_artifact_that_its_run_shows(done, small_dataset):
    _, folder = done
    draw(folder / "predictions.npz", small_dataset.validation, folder / "artifacts")
    files = {
        str(path.relative_to(folder / "artifacts")) for path in (folder / "artifacts").rglob("*.*")
    }
    assert files == {
        "evaluation/predictions.npz",
        "figures/curves.png",
        "figures/confusion_matrix.png",
        "figures/roc.png",
        "figures/precision_recall.png",
        "figures/reliability.png",
        "figures/mistakes.png",
        "evaluation/confusion_matrix.json",
        "evaluation/classification_report.json",
        "evaluation/roc.json",
        "model/summary.txt",
        "config.json",
    }


def test_the_config_is_enough_to_build_the_model_again(done):
    _, folder = done
    record = json.loads((folder / "artifacts" / "config.json").read_text())
    model = get_space(record["space"]).build(record["params"], (28, 28), 10)
    saved = keras.saving.load_model(folder / "model.keras")
    assert model.count_params() == saved.count_params()
    assert [w.shape for w in model.weights] == [w.shape for w in saved.weights]
    assert record["seed"] == 5
    assert set(record["environment"]) >= {"keras", "tensorflow", "mnist-lab"}


def test_the_model_is_summarised_in_words(done):
    _, folder = done
    assert "conv2d" in (folder / "artifacts" / "model" / "summary.txt").read_text()


def test_the_same_job_gives_the_same_result(done, small_dataset, tmp_path):
    first, _ = done
    second = run_trial(make_job(tmp_path, "cnn"), small_dataset, lambda _: None)
    same = set(first.scalars) - {"fit_seconds", "latency_ms"}
    assert {n: first.scalars[n] for n in same} == {n: second.scalars[n] for n in same}


def test_a_diverging_trial_fails_with_its_epoch(small_dataset, tmp_path, monkeypatch):
    space = get_space("fnn-v1")
    job = make_job(
        tmp_path, "fnn-v1", params={**space.point({"optimizer": "sgd"}), "learning_rate": 1e30}
    )
    result = run_trial(job, small_dataset, lambda _: None)
    assert result == TrialFailed(trial=7, reason="diverged", detail="loss is not finite in epoch 1")


def test_a_model_that_cannot_be_built_is_invalid(small_dataset, tmp_path):
    params = {**get_space("fnn").baseline, "units_1": 0}
    result = run_trial(make_job(tmp_path, params=params), small_dataset, lambda _: None)
    assert (type(result), result.reason) == (TrialFailed, "invalid")


def test_a_space_that_changed_under_a_sweep_is_invalid(small_dataset, tmp_path):
    result = run_trial(make_job(tmp_path, space_digest="old"), small_dataset, lambda _: None)
    assert "has changed since the sweep began" in result.detail


@pytest.mark.parametrize("kind", [MemoryError, type("ResourceExhaustedError", (Exception,), {})])
def test_running_out_of_memory_is_a_failure_of_its_own_kind(small_dataset, tmp_path, kind):
    def report(_):
        raise kind("no memory")

    result = run_trial(make_job(tmp_path, "fnn"), small_dataset, report)
    assert result.reason == "out_of_memory"
    assert "no memory" in result.detail


def test_any_other_exception_fails_the_trial_and_is_in_the_log(small_dataset, tmp_path, capsys):
    def report(_):
        raise RuntimeError("a mistake of ours")

    result = run_trial(make_job(tmp_path, "fnn"), small_dataset, report)
    assert (result.reason, result.detail) == ("error", "RuntimeError: a mistake of ours")
    assert "Traceback" in capsys.readouterr().err


SPACE_WITH_A_RULE = """
from optuna.distributions import IntDistribution
from mnist_lab.spaces import Constraint, search_space

@search_space(name="ruled", version=1, description="", defaults={"units": 8},
              distributions={"units": IntDistribution(8, 64)},
              constraints=(Constraint(name="at most 32 units", allows=lambda p: p["units"] <= 32),))
def ruled(params, input_shape, classes):
    raise AssertionError("must not be built")
"""


def test_a_constraint_in_a_space_file_holds_in_the_worker(small_dataset, tmp_path):
    (tmp_path / "ruled.py").write_text(SPACE_WITH_A_RULE)
    space = get_space(f"{tmp_path}/ruled.py:ruled")
    job = make_job(tmp_path, space=space.reference, space_digest=space.digest, params={"units": 64})
    result = run_trial(job, small_dataset, lambda _: None)
    assert (result.reason, result.detail) == ("invalid", "not allowed: at most 32 units")


def test_predictions_are_not_kept_if_the_experiment_says_so(small_dataset, tmp_path):
    job = dataclasses.replace(make_job(tmp_path, "fnn"), keep_predictions=False)
    run_trial(job, small_dataset, lambda _: None)
    assert not (tmp_path / "artifacts" / "evaluation" / "predictions.npz").exists()


@pytest.mark.parametrize(
    ("limits", "beyond"),
    [
        ({"parameters": 100.0}, {"parameters"}),
        ({"parameters": 100.0, "file_size": 1e9}, {"parameters"}),
        ({"file_size": 100.0, "latency": 1e-6}, {"file_size", "latency"}),
    ],
)
def test_a_model_beyond_a_limit_is_not_trained(limits, beyond, tmp_path, small_dataset):
    epochs = []
    failed = run_trial(make_job(tmp_path, limits=limits), small_dataset, epochs.append)
    assert (failed.reason, set(failed.measured)) == ("infeasible", beyond)
    assert all(f"{name} " in failed.detail for name in beyond)
    assert epochs == []


def test_a_model_within_its_limits_is_trained(tmp_path, small_dataset):
    limits = {"parameters": 1e6, "file_size": 1e7, "latency": 1e4}
    done = run_trial(make_job(tmp_path, limits=limits, epochs=1), small_dataset, lambda _: None)
    assert isinstance(done, TrialFinished)


def test_a_limit_does_not_change_what_checkpoints_are_of(tmp_path):
    assert make_job(tmp_path).identity == make_job(tmp_path, limits={"parameters": 9.0}).identity
