"""FAULTS 8 and 9: Ctrl-C once and twice, SIGTERM."""

from __future__ import annotations

import os
import signal
import time

import pytest

from mnist_lab.publish import find_difference

from .conftest import read_until, states

MOST_SECONDS = 120  # to leave; a trial of ``fakes`` that hangs does so for five times as long


def interrupt(process, *signals, word="trial 1 epoch 1/", group=False):
    """Send signals after ``word``; return what the process says on its way out."""
    read_until(process, word)
    for each in signals:
        os.killpg(process.pid, each) if group else process.send_signal(each)
        time.sleep(0.05)
    return process.communicate(timeout=MOST_SECONDS)[1]


@pytest.mark.only_by_default("15-143-supervisor")
@pytest.mark.parametrize("group", [False, True], ids=["supervisor", "all"])
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),  # as test_cli has it
    ],
)
def test_one_signal_lets_the_epoch_finish_and_everything_can_go_on(
    number, code, group, supervise, sweep, study, settings, compare
):
    process = supervise(trainer="fakes:run_slow_trial")
    interrupt(process, number, group=group)
    assert process.returncode == code
    assert states(study()) == ["COMPLETE", "RUNNING"]
    assert len(study().trial(1).history) == 2  # the one that was running when the signal came
    compare()
    assert find_difference(study(), settings).whole
    assert sweep().finished == 4
    assert study().trial(1).retrained == 0
    compare()


@pytest.mark.slow
def test_two_signals_stop_at_once_and_everything_can_go_on(supervise, sweep, faults, compare):
    faults({"trial": 0, "epoch": 2, "what": "hang"})  # for longer than is waited for here
    process = supervise()
    errors = interrupt(process, signal.SIGINT, signal.SIGINT, word="trial 0 epoch 1/")
    assert process.returncode == 130
    assert "Every epoch before it is kept" in errors
    compare()
    assert sweep().finished == 4
    compare()


@pytest.mark.slow
def test_sigterm_does_not_wait_for_an_epoch_that_takes_longer_than_its_grace(
    supervise, faults, study, compare
):
    faults({"trial": 0, "epoch": 2, "what": "hang"})
    process = supervise()
    interrupt(process, signal.SIGTERM, word="trial 0 epoch 1/")
    assert process.returncode == 143
    assert [epoch.epoch for epoch in study().trial(0).history] == [1]
    compare()
