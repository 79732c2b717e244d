from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import optuna
import pytest

from mnist_lab.errors import (
    BusyError,
    ConfigurationError,
    ServiceError,
    UnknownNameError,
    UsageError,
)
from mnist_lab.settings import Settings
from mnist_lab.spaces import get_space
from mnist_lab.study.config import SweepConfig
from mnist_lab.study.lock import lock_study
from mnist_lab.study.open import create_study, open_study, study_name
from mnist_lab.study.record import fingerprint, read_fingerprint
from mnist_lab.study.storage import connect

PRUNER = optuna.pruners.NopPruner()


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def made_with(small_dataset):
    return fingerprint(SweepConfig(space="fnn"), get_space("fnn"), small_dataset)


def test_a_new_study_remembers_what_it_was_made_with(settings, made_with):
    study = create_study(connect(settings), "s", made_with, pruner=PRUNER)
    assert read_fingerprint(study) == made_with


def test_an_existing_study_is_opened_again(settings, made_with):
    first = create_study(connect(settings), "s", made_with, pruner=PRUNER)
    first.tell(first.ask(), 0.5)
    assert len(create_study(connect(settings), "s", made_with, pruner=PRUNER).trials) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 3},
        {"space_digest": "b"},
        {"dataset_digest": "c"},
        {"space": "cnn-v1"},
        {"fixed": "{}x"},
    ],
)
def test_another_space_data_set_or_epoch_count_is_refused_and_nothing_is_written(
    settings, made_with, changes
):
    create_study(connect(settings), "s", made_with, pruner=PRUNER)
    with pytest.raises(ConfigurationError, match=f"{next(iter(changes))} .*the study has"):
        create_study(connect(settings), "s", replace(made_with, **changes), pruner=PRUNER)
    assert read_fingerprint(open_study(settings, "s")) == made_with


def test_a_study_of_another_direction_is_refused(settings, made_with):
    optuna.create_study(storage=settings.storage, study_name="s", direction="minimize")
    with pytest.raises(ConfigurationError, match=r"direction maximize.*minimize"):
        create_study(connect(settings), "s", made_with, pruner=PRUNER)


def test_the_same_data_at_another_path_is_the_same_study(settings, made_with):
    create_study(connect(settings), "s", made_with, pruner=PRUNER)
    moved = replace(made_with, dataset_source="elsewhere.npz")
    assert read_fingerprint(create_study(connect(settings), "s", moved, pruner=PRUNER)) == made_with


def test_an_unknown_study_is_refused_with_the_nearest_name(settings, made_with):
    create_study(connect(settings), "mnist-cnn", made_with, pruner=PRUNER)
    with pytest.raises(UnknownNameError, match="Did you mean 'mnist-cnn'"):
        open_study(settings, "mnist-cn")


def test_a_storage_that_cannot_be_opened_is_a_service_error(tmp_path):
    settings = Settings(home=tmp_path, storage_override="sqlite:////no/such/folder/optuna.db")
    with pytest.raises(ServiceError, match="cannot be opened"):
        connect(settings)


def test_a_storage_without_its_driver_names_the_extra(tmp_path):
    settings = Settings(home=tmp_path, storage_override="postgresql+pg8000://127.0.0.1/db")
    with pytest.raises(ServiceError, match=r"mnist-lab\[postgres\]"):
        connect(settings)


def test_the_default_name_changes_with_data_space_and_epochs(small_dataset):
    space = get_space("cnn")
    assert study_name(SweepConfig(space="cnn", epochs=3), space, small_dataset) == "tiny-cnn-v2-3ep"


@pytest.mark.parametrize("name", ["../x", "a;rm", "x" * 101, "two\nlines", ".hidden", "ünicode/"])
def test_an_evil_name_is_refused(name, small_dataset):
    with pytest.raises(UsageError, match="cannot name a study"):
        study_name(SweepConfig(space="cnn", study=name), get_space("cnn"), small_dataset)


def test_a_study_has_one_supervisor_and_the_second_says_who_holds_it(tmp_path):
    program = (
        "import sys; from pathlib import Path; from mnist_lab.study.open import hold\n"
        "with lock_study(Path(sys.argv[1]), 's'):\n    print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(words, stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"process {other.pid}"), lock_study(tmp_path, "s"):
            pass
        other.kill()
    with lock_study(tmp_path, "s"):  # a dead process holds nothing
        pass
