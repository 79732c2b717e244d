"""FAULTS 6, 7, 24: a supervisor that dies anywhere, and what the same command makes of it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil
import pytest

from mnist_lab.config import SweepConfig
from mnist_lab.settings import Settings
from mnist_lab.study import FINISHED, open_study
from mnist_lab.sweep import launch
from mnist_lab.tracking import NullTracker

from .conftest import CONFIG, children, read_until, states, values_by_epoch
from .fault_points import POINTS

# Every point takes 15 s; in the default suite are the two at which most is half done.
DEFAULT = ("after ask", "after the run is closed")


@pytest.fixture(scope="module")
def uninterrupted(small_file, tmp_path_factory):
    """Parameters and values of the trials of a sweep that nothing happened to."""
    settings = Settings(home=tmp_path_factory.mktemp("uninterrupted"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "none")
        launch(
            SweepConfig(**{**CONFIG, "dataset": str(small_file)}),
            settings,
            trainer="fakes:run_trial",
            make_tracker=lambda *_: NullTracker(),
        )
    return [(trial.params, trial.value) for trial in open_study(settings, "s").trials()]


@pytest.mark.only_by_default("after ask")
@pytest.mark.parametrize(
    "point",
    [
        point if point in DEFAULT else pytest.param(point, marks=pytest.mark.slow)
        for point in POINTS
    ],
)
def test_after_a_kill_the_same_command_reaches_the_same_end(
    point, supervise, sweep, study, compare, uninterrupted
):
    process = supervise(point)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    finished = study().trials(FINISHED)
    result = sweep()
    assert result.finished == study().count() == 4
    assert [(trial.params, trial.value) for trial in study().trials()] == uninterrupted
    assert all(study().trial(trial.number).value == trial.value for trial in finished)
    assert result.lag.items == 0
    compare()


def is_left(process):
    """Whether a process of the dead supervisor's group is still there, and no zombie."""
    for each in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(each.pid) == process.pid and each.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def test_no_process_is_left_when_the_supervisor_is_killed(supervise):
    process = supervise(trainer="fakes:run_slow_trial", workers=2, epochs=100)
    read_until(process, "epoch 1/")
    family = children(process)
    assert len(family) >= 2
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=120)
    assert alive == []


@pytest.mark.slow
def test_a_power_cut_between_checkpoint_and_ledger_leaves_every_epoch_once(
    supervise, sweep, faults, study, compare, wait_until
):
    faults({"trial": 1, "point": "checkpoint", "epoch": 2, "what": "kill the supervisor"})
    process = supervise()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert list(values_by_epoch(study(), 1)) == [1]
    wait_until(lambda: not is_left(process), seconds=120)
    sweep()
    assert list(values_by_epoch(study(), 1)) == [1, 2, 3]
    assert study().trial(1).retrained == 0
    assert states(study()) == ["COMPLETE"] * 4
    compare()
