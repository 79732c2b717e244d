"""FAULTS 8 and 9: Ctrl-C once and twice, SIGTERM."""

from __future__ import annotations

import os
import signal
import time

import pytest

from mnist_lab.publish.sync import find_difference
from mnist_lab.study import ledger

from .conftest import read_until, states


def interrupt(process, *signals, word="trial 1 epoch 1/", group=False):
    read_until(process, word)
    began = time.monotonic()
    for each in signals:
        os.killpg(process.pid, each) if group else process.send_signal(each)
        time.sleep(0.05)
    said, errors = process.communicate(timeout=60)
    return said, errors, time.monotonic() - began


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
    epochs = len(ledger.read_history(study().trials[1]))
    assert epochs == 2  # the one that was running when the signal came
    compare()
    assert find_difference(study(), settings).whole
    assert sweep().finished == 4
    assert ledger.read_retrained(study().trials[1]) == 0
    compare()


def test_two_signals_stop_at_once_and_everything_can_go_on(supervise, sweep, study, compare):
    process = supervise(trainer="fakes:run_trial", environment={"EPOCH_SECONDS": "5"}.items())
    _, errors, seconds = interrupt(process, signal.SIGINT, signal.SIGINT, word="trial 0 epoch 1/")
    assert process.returncode == 130
    assert seconds < 4
    assert "Every epoch before it is kept" in errors
    compare()
    assert sweep().finished == 4
    compare()


def test_sigterm_does_not_wait_for_an_epoch_that_takes_longer_than_its_grace(
    supervise, faults, study, compare
):
    faults({"trial": 0, "epoch": 2, "what": "hang"})
    process = supervise()
    _, _, seconds = interrupt(process, signal.SIGTERM, word="trial 0 epoch 1/")
    assert process.returncode == 143
    assert seconds < 10
    assert [epoch.epoch for epoch in ledger.read_history(study().trials[0])] == [1]
    compare()
