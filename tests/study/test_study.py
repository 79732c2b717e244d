from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace

import optuna
import pytest

from mnist_lab.config import SweepConfig
from mnist_lab.data import ImageForm
from mnist_lab.errors import (
    BusyError,
    ConfigurationError,
    ServiceError,
    UnknownNameError,
    UsageError,
)
from mnist_lab.settings import Settings
from mnist_lab.spaces import get_space
from mnist_lab.study.lock import lock_study
from mnist_lab.study.names import study_name
from mnist_lab.study.open import create_study, open_studies, open_study
from mnist_lab.study.record import make_record
from mnist_lab.study.stopped import Stopped, StopReason
from mnist_lab.study.storage import connect

PRUNER = optuna.pruners.NopPruner()


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def record(small_dataset):
    return make_record("s", SweepConfig(space="fnn"), get_space("fnn"), small_dataset)


def test_a_new_study_remembers_what_it_was_record(settings, record):
    study = create_study(connect(settings), record, pruner=PRUNER)
    assert study.record == record


def test_an_existing_study_is_opened_again(settings, record):
    first = create_study(connect(settings), record, pruner=PRUNER)
    first.study.tell(first.study.ask(), 0.5)
    assert create_study(connect(settings), record, pruner=PRUNER).count() == 1


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
    settings, record, changes
):
    create_study(connect(settings), record, pruner=PRUNER)
    with pytest.raises(ConfigurationError, match=f"{next(iter(changes))} .*the study has"):
        create_study(connect(settings), replace(record, **changes), pruner=PRUNER)
    assert open_study(settings, "s").record == record


def test_a_study_of_another_direction_is_refused(settings, record):
    optuna.create_study(storage=settings.storage, study_name="s", direction="minimize")
    with pytest.raises(ConfigurationError, match=r"direction maximize.*minimize"):
        create_study(connect(settings), record, pruner=PRUNER)


def test_the_same_data_at_another_path_is_the_same_study(settings, record):
    create_study(connect(settings), record, pruner=PRUNER)
    moved = replace(record, id="drawn anew", dataset_source="elsewhere.npz")
    assert create_study(connect(settings), moved, pruner=PRUNER).record == record


# The record of a study in two attributes, as versions before 27 November 2026 wrote it.
EARLIER = (
    "space", "space_digest", "reference", "family", "dataset", "dataset_source", "dataset_digest",
    "epochs", "fixed", "sources",
)  # fmt: skip
PAGE = ("id", "name", "family", "space", "dataset", "dataset_digest", "splits", "settings")


@pytest.fixture
def write_earlier(settings, record):
    """A study as an earlier version made it; without ``page`` it was interrupted as it did."""

    def write_earlier(*, page=True, **changes):
        study = optuna.create_study(
            storage=settings.storage, study_name="s", direction="maximize", pruner=PRUNER
        )
        facts = {**asdict(record), **changes}
        study.set_user_attr("mnist_lab", {key: facts[key] for key in EARLIER})
        if page:
            study.set_user_attr("record", {key: facts[key] for key in PAGE})
        return study

    return write_earlier


def test_a_study_of_an_earlier_version_is_read_as_one_record(settings, record, write_earlier):
    written = write_earlier()
    record = replace(record, images=ImageForm(), data="")  # all that there was
    study = open_study(settings, "s")
    assert study.record == record
    assert study.is_managed
    assert [each.name for each in open_studies(settings)] == ["s"]
    again = create_study(connect(settings), replace(record, id="drawn anew"), pruner=PRUNER)
    assert again.record == record
    assert optuna.load_study(study_name="s", storage=settings.storage).user_attrs == (
        written.user_attrs
    )


def test_a_study_of_an_earlier_version_without_digests_of_its_space_file_is_read(
    settings, record, write_earlier
):
    study = write_earlier()
    older = {key: value for key, value in study.user_attrs["mnist_lab"].items() if key != "sources"}
    study.set_user_attr("mnist_lab", older)
    assert open_study(settings, "s").record == replace(
        record, sources="", images=ImageForm(), data=""
    )


def test_a_study_of_an_earlier_version_that_was_made_with_something_else_is_refused(
    settings, record, write_earlier
):
    write_earlier(epochs=3)
    with pytest.raises(ConfigurationError, match=r"epochs 10 \(the study has 3\)"):
        create_study(connect(settings), record, pruner=PRUNER)


def test_an_earlier_study_that_was_interrupted_as_it_was_made_gets_its_record(
    settings, record, write_earlier
):
    write_earlier(page=False)
    unfinished = open_study(settings, "s")
    assert not unfinished.is_managed
    with pytest.raises(ConfigurationError, match="not made by this version"):
        unfinished.record  # noqa: B018 - reading it is what is refused
    assert create_study(connect(settings), record, pruner=PRUNER).record == record
    study = open_study(settings, "s")
    assert study.record == record
    assert study.is_managed


def test_an_earlier_study_that_was_interrupted_as_it_was_made_keeps_what_it_was_made_with(
    settings, record, write_earlier
):
    written = write_earlier(page=False, epochs=3)
    with pytest.raises(ConfigurationError, match=r"epochs 10 \(the study has 3\)"):
        create_study(connect(settings), record, pruner=PRUNER)
    assert optuna.load_study(study_name="s", storage=settings.storage).user_attrs == (
        written.user_attrs
    )


def test_a_study_that_was_interrupted_before_its_record_was_written_gets_it(settings, record):
    optuna.create_study(storage=settings.storage, study_name="s", direction="maximize")
    assert create_study(connect(settings), record, pruner=PRUNER).record == record
    assert open_study(settings, "s").is_managed


def test_a_study_of_another_program_is_refused_and_nothing_is_written(settings, record):
    foreign = optuna.create_study(
        storage=settings.storage, study_name="s", direction="maximize", pruner=PRUNER
    )
    foreign.set_user_attr("owner", "somebody else")
    with pytest.raises(ConfigurationError, match="not made by mnist-lab"):
        create_study(connect(settings), record, pruner=PRUNER)
    study = open_study(settings, "s")
    assert study.study.user_attrs == {"owner": "somebody else"}
    assert not study.is_managed


@pytest.mark.parametrize(
    ("text", "reason", "state"),
    [
        ("interrupted", StopReason.INTERRUPTED, "interrupted"),
        ("the timeout of 5 s has passed", StopReason.TIMEOUT, "interrupted"),
        ("10 trials in a row failed", StopReason.FAILURES, "failed"),
        ("all 3 trials failed", StopReason.ALL_FAILED, "failed"),
        ("disk_full (/there: No space left,\n0 bytes free)", StopReason.DISK, "interrupted"),
        ("disk_error (/there: Input/output error)", StopReason.DISK, "interrupted"),
        ("something that no version wrote", StopReason.INTERRUPTED, "interrupted"),
    ],
)
def test_why_a_sweep_of_an_earlier_version_ended_is_read_from_its_sentence(
    settings, write_earlier, text, reason, state
):
    write_earlier().set_user_attr("stopped", text)
    study = open_study(settings, "s")
    assert study.stopped == Stopped(reason, text)
    assert str(study.stopped) == text
    assert study.state == state


def test_an_earlier_study_that_reached_its_total_was_not_stopped(settings, write_earlier):
    write_earlier().set_user_attr("stopped", "")
    study = open_study(settings, "s")
    assert (study.stopped, study.state) == (None, "complete")


@pytest.mark.parametrize("reason", StopReason)
def test_why_a_sweep_ended_is_read_as_it_was_written(settings, record, reason):
    study = create_study(connect(settings), record, pruner=PRUNER)
    study.write_stopped(Stopped(reason, "9 of 10"))
    assert open_study(settings, "s").stopped == Stopped(reason, "9 of 10")
    study.write_stopped(None)
    assert open_study(settings, "s").stopped is None


def test_an_unknown_study_is_refused_with_the_nearest_name(settings, record):
    create_study(connect(settings), replace(record, name="mnist-cnn"), pruner=PRUNER)
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


def test_a_study_has_one_supervisor_and_the_second_says_who_holds_it(settings):
    program = (
        "import sys; from mnist_lab.settings import Settings\n"
        "from mnist_lab.study.lock import lock_study\n"
        "with lock_study(Settings(home=sys.argv[1]), 's'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(settings.root)]
    with subprocess.Popen(words, stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"process {other.pid}"), lock_study(settings, "s"):
            pass
        other.kill()
    with lock_study(settings, "s"):  # a dead process holds nothing
        pass
