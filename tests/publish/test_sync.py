from __future__ import annotations

import optuna
import pytest

from fakes import Memory
from mnist_lab.config import SweepConfig
from mnist_lab.errors import ServiceError, UnknownNameError
from mnist_lab.publish import sync
from mnist_lab.study.lock import lock_study
from mnist_lab.study.open import open_study
from mnist_lab.sweep import launch


@pytest.fixture
def swept(settings, small_file, monkeypatch):
    """A study of three trials whose tracker was away; returns settings and the tracker to come."""
    monkeypatch.setenv("KERAS_BACKEND", "none")
    config = SweepConfig(
        space="fnn",
        trials=3,
        epochs=2,
        pruner="none",
        dataset=str(small_file),
        study="s",
        workers=1,
    )

    def away(*_):
        raise ServiceError("no tracker")

    result = launch(config, settings, trainer="fakes:run_trial", make_tracker=away)
    assert result.lag.items == 7  # three trials, three models, the study itself
    return settings


def test_sync_writes_everything_that_the_tracker_lacks(swept):
    tracker, told = Memory(), []
    (row,) = sync(swept, make_tracker=lambda *_: tracker, listener=lambda *each: told.append(each))
    assert (row.study, row.trials, row.written, row.models) == ("s", 3, 3, 3)
    assert tracker.states == dict.fromkeys(range(3), "complete")
    assert tracker.artifacts == [["curves.png"]] * 3
    assert tracker.summaries[-1].state == "complete"
    assert told[-1] == ("s", 3, 3)
    assert open_study(swept, "s").find_run(2) == "run-2"


def test_a_second_sync_changes_nothing(swept):
    tracker = Memory()
    sync(swept, make_tracker=lambda *_: tracker)
    (row,) = sync(swept, make_tracker=lambda *_: tracker)
    assert (row.written, row.models) == (0, 0)
    assert len(tracker.closed) == 3


def test_sync_leaves_no_files_behind(swept):
    sync(swept, make_tracker=lambda *_: Memory())
    assert not list((swept.work / "s").glob("trial-*"))


def test_a_run_in_another_state_is_written_again(swept):
    tracker = Memory()
    sync(swept, make_tracker=lambda *_: tracker)
    tracker.states[1] = "running"
    (row,) = sync(swept, "s", make_tracker=lambda *_: tracker)
    assert row.written == 1
    assert tracker.states[1] == "complete"


def test_a_study_that_is_being_swept_is_left_to_its_sweep(swept):
    with lock_study(swept, "s"):
        (row,) = sync(swept, make_tracker=lambda *_: Memory())
    assert "is being swept" in row.note


def test_a_study_that_is_not_ours_is_left_alone(swept):
    optuna.create_study(storage=swept.storage, study_name="foreign")
    rows = sync(swept, make_tracker=lambda *_: Memory())
    assert {row.study: row.note for row in rows} == {
        "foreign": "not made by this version of mnist-lab",
        "s": "",
    }


def test_an_unknown_study_is_refused(swept):
    with pytest.raises(UnknownNameError, match="Did you mean 's'"):
        sync(swept, "ss")
