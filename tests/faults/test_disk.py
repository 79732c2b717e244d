"""FAULTS 13 and 14: a disk that is full, a folder that cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mnist_lab.config import SweepConfig
from mnist_lab.data import load_dataset
from mnist_lab.errors import ConfigurationError, DiskFullError
from mnist_lab.settings import Settings
from mnist_lab.study import StopReason
from mnist_lab.sweep import launch

from .conftest import states

NOBODY = 65534


def test_a_disk_that_is_full_at_a_checkpoint_stops_the_sweep_and_loses_nothing(
    sweep, faults, study, compare
):
    faults({"trial": 1, "epoch": 2, "what": "fill the disk"})
    result = sweep()
    assert result.stopped.reason is StopReason.DISK
    assert str(result.stopped).startswith("disk_full")
    assert str(Path(".mnist-lab") / "s" / "trial-0001") in str(result.stopped)
    assert states(study()) == ["COMPLETE", "RUNNING"]
    compare()
    assert sweep().finished == 4
    assert study().trial(1).retrained == 0
    compare()


def test_a_study_that_cannot_be_written_stops_the_sweep_and_loses_nothing(
    sweep, study, compare, settings
):
    full = []

    def limit(connection, *_):
        file = connection.execute("PRAGMA database_list").fetchone()[2]
        if full and Path(file).name == "optuna.db":
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill(progress):
        if "trial 1 epoch 1/" in str(progress.news):
            full.append(True)

    event.listen(Engine, "checkout", limit)
    try:
        with pytest.raises(DiskFullError, match=r"No space left in .* bytes free") as caught:
            sweep(listener=fill, trials=40)
        assert caught.value.exit_code == 75
    finally:
        event.remove(Engine, "checkout", limit)
    before = {trial.number: trial.value for trial in study().trials() if trial.value is not None}
    assert sweep(trials=len(before) + 2).finished == len(before) + 2
    assert before.items() <= {t.number: t.value for t in study().trials()}.items()
    compare()


@pytest.mark.slow
def test_artifacts_that_cannot_be_written_stop_the_sweep_and_lose_nothing(
    sweep, study, compare, monkeypatch
):
    def full(self, run, folder, path=None):
        raise OSError(errno.ENOSPC, "No space left on device", folder)

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifacts", full)
        result = sweep(trials=30, trainer="fakes:run_slow_trial")
    assert result.stopped.reason is StopReason.DISK
    assert len(states(study())) < 30
    assert result.lag.items
    done = len(states(study()))
    assert sweep(trials=done).lag.items == 0
    compare()


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_trained(monkeypatch):
    home = Path(tempfile.mkdtemp(prefix="readonly-"))
    os.chmod(home, 0o500)
    root = os.geteuid() == 0
    load_dataset("mnist")  # or what reads it may have to be imported by one who may not read it
    if root:
        os.chown(home, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        with pytest.raises(ConfigurationError, match=f"{home} cannot be written: Permission"):
            launch(SweepConfig(space="fnn", trials=1), Settings(home=home))
    finally:
        if root:
            os.seteuid(0)
        os.chmod(home, 0o700)
        left = list(home.iterdir())
        shutil.rmtree(home)
    assert left == []
