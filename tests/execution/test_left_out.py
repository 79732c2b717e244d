"""A real training that leaves a part out."""

from __future__ import annotations

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from mnist_lab.data import leave_out
from mnist_lab.evaluation import unpack_classes
from mnist_lab.execution import TrialJob
from mnist_lab.execution.trial import run_trial
from mnist_lab.spaces import get_space

PART = 2


def make_job(folder, **changes):
    space = get_space("fnn")
    params = space.point({"units_1": 32, "batch_size": 32, "learning_rate": 0.02})
    job = TrialJob(
        trial=7, study="s", space=space.reference, space_digest=space.digest, params=params,
        epochs=8, seed=5, folder=str(folder), left_out=PART,
    )  # fmt: skip
    return replace(job, **changes)


@pytest.fixture(scope="module")
def done(small_dataset, tmp_path_factory):
    folder, seen = tmp_path_factory.mktemp("trial"), []
    result = run_trial(make_job(folder), small_dataset, seen.append)
    return result, folder, seen[-1]


def test_it_is_validated_on_the_part_with_the_weights_of_the_last_epoch(done, small_dataset):
    result, folder, epochs = done
    part = leave_out(small_dataset, PART).validation
    found = keras.saving.load_model(folder / "model.keras").predict(part.images, verbose=0)
    accuracy = np.mean(found.argmax(axis=1) == part.labels)
    assert result.best_epoch == 8
    assert result.scalars["best_val_accuracy"] == epochs[-1].val_accuracy
    assert accuracy == pytest.approx(epochs[-1].val_accuracy, abs=1e-6)


def test_it_reports_the_classes_that_it_gives_the_part(done, small_dataset):
    result, _, epochs = done
    part = leave_out(small_dataset, PART).validation
    right = unpack_classes(result.predicted) == part.labels
    assert np.mean(right) == pytest.approx(epochs[-1].val_accuracy, abs=1e-6)


def test_its_record_names_the_part_and_the_images(done, small_dataset):
    record = json.loads((done[1] / "artifacts" / "config.json").read_text())
    divided = leave_out(small_dataset, PART)
    assert record["left_out"] == PART
    assert record["dataset"]["train"] == divided.train.digest
    assert record["dataset"]["validation"] == divided.validation.digest


def test_it_has_no_figures_which_would_be_of_other_images(done):
    assert not (done[1] / "predictions.npz").exists()


def test_checkpoints_of_another_part_are_not_its_own(tmp_path):
    jobs = [make_job(tmp_path, left_out=part) for part in (None, 2, 3)]
    assert len({job.identity for job in jobs}) == 3
