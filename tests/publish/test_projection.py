"""The thread beside a sweep, and what it does with a tracker that refuses."""

from __future__ import annotations

import errno
import time
from threading import Event

import pytest

from fakes import Memory, model_record, outcome, study_record, summary, trial_record
from mnist_lab.execution.files import TrialFiles
from mnist_lab.publish.background import PATIENCE_WITH_BROKEN_SECONDS, BackgroundWriter
from mnist_lab.publish.writer import TrackerWriter


@pytest.fixture
def make(tmp_path):
    def make(tracker, **options):
        files = TrialFiles(tmp_path)
        projector = BackgroundWriter(
            TrackerWriter(study_record(), lambda: tracker, files), **options
        )
        projector.start()
        return projector

    return make


def ended(trial):
    return trial_record(trial, outcome=outcome())


def test_a_record_that_is_refused_keeps_nothing_else_from_being_written(make, tmp_path):
    tracker = Memory()
    opening = tracker.open_trial

    def refuse_one(study, parent, trial):
        if trial.trial == 1:
            raise ValueError("refused")
        return opening(study, parent, trial)

    tracker.open_trial = refuse_one
    projector = make(tracker, reached=True)
    for trial in range(4):
        projector.tell(ended(trial))
    model = TrialFiles(tmp_path).model(3)
    model.parent.mkdir()
    model.write_bytes(b"keras")
    lag = projector.close([(model_record(model, trial=3), ended(3))], summary())
    assert (lag.items, lag.why) == (1, "ValueError: refused")
    assert tracker.states == {0: "complete", 2: "complete", 3: "complete"}
    assert len(tracker.summaries) == 1
    assert tracker.models == [3]


def test_a_tracker_that_stumbles_at_the_end_is_asked_again(make):
    left = [2]

    def stumble(_):
        if left[0]:
            left[0] -= 1
            raise ConnectionError("reset")

    tracker = Memory(stumble)
    projector = make(tracker, reached=True)
    projector.tell(ended(0))
    assert projector.close([], summary()).items == 0
    assert tracker.states == {0: "complete"}


def test_a_tracker_that_answered_is_waited_for_while_the_data_sets_figures_are_drawn(tmp_path):
    tracker = Memory()
    slow = TrackerWriter(
        study_record(),
        lambda: tracker,
        TrialFiles(tmp_path),
        draw_dataset=lambda _: time.sleep(2 * PATIENCE_WITH_BROKEN_SECONDS),
    )
    projector = BackgroundWriter(slow)
    projector.start()
    projector.tell(ended(0))
    assert projector.close([], summary()).items == 0
    assert tracker.states == {0: "complete"}


def test_what_still_runs_at_the_end_is_closed_as_interrupted(make):
    tracker = Memory()
    projector = make(tracker, reached=True)
    projector.tell(trial_record(5))
    assert projector.close([], summary("interrupted")).items == 0
    assert tracker.states == {5: "interrupted"}


def test_in_a_hurry_nothing_is_drawn_and_what_still_runs_is_closed_first(tmp_path, wait_until):
    files, tracker, begun, stopped = TrialFiles(tmp_path), Memory(), [], Event()
    for trial in (0, 1):
        files.folder(trial).mkdir()
        (files.folder(trial) / "predictions.npz").write_bytes(b"probabilities")

    def draw(folder):
        if (folder / "predictions.npz").exists():
            begun.append(folder)
            assert stopped.wait(10)
            raise ConnectionAbortedError

    projection = TrackerWriter(
        study_record(), lambda: tracker, files, draw=draw, stop_drawing=stopped.set
    )
    projector = BackgroundWriter(projection)
    projector.start()
    projector.tell(trial_record(2))
    for trial in (0, 1):
        projector.tell(ended(trial))
    wait_until(lambda: begun)  # the first drawing has begun before somebody is in a hurry
    assert projector.close([], summary("interrupted"), hurry=True).items == 0
    assert [run for run, _ in tracker.closed] == ["run-0", "run-2", "run-1"]
    assert tracker.states == {0: "complete", 2: "interrupted", 1: "complete"}
    assert all((files.folder(trial) / "predictions.npz").exists() for trial in (0, 1))
    assert not any(each.closed for each in projector.collect())  # they are told again


def test_a_record_in_the_hand_of_a_tracker_that_hangs_is_counted_as_lacking(tmp_path):
    tracker = Memory(lambda name: time.sleep(20) if name == "close_trial" else None)
    projector = BackgroundWriter(
        TrackerWriter(study_record(), lambda: tracker, TrialFiles(tmp_path))
    )
    projector.start()
    projector.tell(ended(0))
    assert projector.close([], summary(), hurry=True).items == 2  # the trial and the summary


def test_a_tracker_that_never_answers_is_waited_for_less_than_two_seconds(tmp_path):
    silent = TrackerWriter(study_record(), lambda: time.sleep(20), TrialFiles(tmp_path))
    projector = BackgroundWriter(silent)
    projector.start()
    projector.tell(ended(0))
    began = time.monotonic()
    lag = projector.close([], summary())
    assert time.monotonic() - began < 2
    assert lag.why == "no answer"


@pytest.mark.parametrize("local", [True, False])
def test_a_full_disk_is_ours_only_if_the_tracker_is_on_this_machine(make, local, wait_until):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    projector = make(Memory(full), local=local)
    projector.tell(ended(0))
    wait_until(lambda: projector.trouble)
    assert projector.disk_full is local
    projector.close([], summary())


def test_a_password_in_an_error_is_masked(make, wait_until):
    def fail(_):
        raise ConnectionError("API request to http://user:s3cret@host/api failed")

    projector = make(Memory(fail))
    projector.tell(ended(0))
    wait_until(lambda: projector.trouble)
    assert projector.close([], summary()).why == (
        "ConnectionError: API request to http://***@host/api failed"
    )
