"""The thread beside a sweep, and what it does with a tracker that refuses."""

from __future__ import annotations

import errno
import time
from threading import Event

import pytest

from fakes import Memory, model_record, outcome, study_record, summary, trial_record
from mnist_lab.execution.files import TrialFiles
from mnist_lab.publish import background
from mnist_lab.publish.background import BackgroundWriter
from mnist_lab.publish.writer import NoFigures, TrackerWriter

GENEROUS_SECONDS = 120  # for what takes milliseconds on an idle machine


@pytest.fixture
def make(tmp_path):
    def make(tracker, **options):
        files = TrialFiles(tmp_path)
        writer = BackgroundWriter(TrackerWriter(study_record(), lambda: tracker, files), **options)
        writer.start()
        return writer

    return make


@pytest.fixture
def patient(monkeypatch):
    """As long as it takes: for tests that are not about when waiting ends."""
    for name in ("", "_WITH_BROKEN", "_WITH_SIGNAL"):
        monkeypatch.setattr(background, f"PATIENCE{name}_SECONDS", GENEROUS_SECONDS)


@pytest.fixture
def hang():
    """A call that does not return before the test has ended."""
    ended = Event()
    yield lambda *_: ended.wait(GENEROUS_SECONDS)
    ended.set()


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
    writer = make(tracker, reached=True)
    for trial in range(4):
        writer.publish(ended(trial))
    model = TrialFiles(tmp_path).model(3)
    model.parent.mkdir()
    model.write_bytes(b"keras")
    backlog = writer.close([(model_record(model, trial=3), ended(3))], summary())
    assert (backlog.items, backlog.why) == (1, "ValueError: refused")
    assert tracker.states == {0: "complete", 2: "complete", 3: "complete"}
    assert len(tracker.summaries) == 1
    assert tracker.models == [3]


@pytest.mark.usefixtures("patient")
def test_a_tracker_that_stumbles_at_the_end_is_asked_again(make):
    left = [2]

    def stumble(_):
        if left[0]:
            left[0] -= 1
            raise ConnectionError("reset")

    tracker = Memory(stumble)
    writer = make(tracker, reached=True)
    writer.publish(ended(0))
    assert writer.close([], summary()).items == 0
    assert tracker.states == {0: "complete"}


def test_a_tracker_that_answered_is_waited_for_while_the_data_sets_figures_are_drawn(
    tmp_path, wait_until
):
    tracker, begun = Memory(), Event()

    class Slow(NoFigures):
        def draw_dataset(self, folder):
            begun.set()
            time.sleep(2 * background.PATIENCE_WITH_BROKEN_SECONDS)

    slow = TrackerWriter(study_record(), lambda: tracker, TrialFiles(tmp_path), figures=Slow())
    writer = BackgroundWriter(slow)
    writer.start()
    writer.publish(ended(0))
    assert begun.wait(GENEROUS_SECONDS)  # else this machine may be too slow to have been answered
    assert writer.close([], summary()).items == 0
    assert tracker.states == {0: "complete"}


def test_what_still_runs_at_the_end_is_closed_as_interrupted(make):
    tracker = Memory()
    writer = make(tracker, reached=True)
    writer.publish(trial_record(5))
    assert writer.close([], summary("interrupted")).items == 0
    assert tracker.states == {5: "interrupted"}


@pytest.mark.usefixtures("patient")
def test_in_a_hurry_nothing_is_drawn_and_what_still_runs_is_closed_first(tmp_path, wait_until):
    files, tracker, begun, stopped = TrialFiles(tmp_path), Memory(), [], Event()
    for trial in (0, 1):
        files.folder(trial).mkdir()
        (files.folder(trial) / "predictions.npz").write_bytes(b"probabilities")

    class Stopped(NoFigures):
        def draw(self, folder):
            if (folder / "predictions.npz").exists():
                begun.append(folder)
                assert stopped.wait(GENEROUS_SECONDS)
                raise ConnectionAbortedError

        def close(self):
            stopped.set()

    writer = BackgroundWriter(
        TrackerWriter(study_record(), lambda: tracker, files, figures=Stopped())
    )
    writer.start()
    writer.publish(trial_record(2))
    for trial in (0, 1):
        writer.publish(ended(trial))
    wait_until(lambda: begun)  # the first drawing has begun before somebody is in a hurry
    assert writer.close([], summary("interrupted"), hurry=True).items == 0
    assert [run for run, _ in tracker.closed] == ["run-0", "run-2", "run-1"]
    assert tracker.states == {0: "complete", 2: "interrupted", 1: "complete"}
    assert all((files.folder(trial) / "predictions.npz").exists() for trial in (0, 1))
    assert not any(each.closed for each in writer.collect())  # they are told again


def test_a_record_in_the_hand_of_a_tracker_that_hangs_is_counted_as_lacking(make, hang):
    writer = make(Memory(lambda name: hang() if name == "close_trial" else None))
    writer.publish(ended(0))
    assert writer.close([], summary(), hurry=True).items == 2  # the trial and the summary


def test_a_tracker_that_never_answers_is_not_waited_for_as_long_as_one_that_works(
    tmp_path, hang, monkeypatch
):
    monkeypatch.setattr(background, "PATIENCE_SECONDS", 3600)  # longer than a test may take
    assert background.PATIENCE_WITH_BROKEN_SECONDS < 2
    writer = BackgroundWriter(TrackerWriter(study_record(), hang, TrialFiles(tmp_path)))
    writer.start()
    writer.publish(ended(0))
    assert writer.close([], summary()).why == "no answer"


@pytest.mark.parametrize("local", [True, False])
def test_a_full_disk_is_ours_only_if_the_tracker_is_on_this_machine(make, local, wait_until):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = make(Memory(full), local=local)
    writer.publish(ended(0))
    wait_until(lambda: writer.trouble)
    assert writer.disk_full is local
    writer.close([], summary())


def test_a_password_in_an_error_is_masked(make, wait_until):
    def fail(_):
        raise ConnectionError("API request to http://user:s3cret@host/api failed")

    writer = make(Memory(fail))
    writer.publish(ended(0))
    wait_until(lambda: writer.trouble)
    assert writer.close([], summary()).why == (
        "MLflow's server fails: ConnectionError: API request to http://***@host/api failed"
    )
