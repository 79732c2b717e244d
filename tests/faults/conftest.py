"""Sweeps that are made to go wrong: with a fake trainer, and everything else real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from mnist_lab.config import SweepConfig
from mnist_lab.study import STATES, open_study
from mnist_lab.sweep import launch

TESTS = Path(__file__).parents[1]

# The command, but for its trainer; ``argv`` is the config as JSON, where to die, and how.
PROGRAM = """
import json, os, signal, sys
from fault_points import die_at
from mnist_lab.cli.app import _say
from mnist_lab.errors import MnistLabError
from mnist_lab.settings import Settings
from mnist_lab.config import SweepConfig
from mnist_lab.sweep import launch

if __name__ == "__main__":
    die_at(sys.argv[2])
    try:
        result = launch(SweepConfig(**json.loads(sys.argv[1])), Settings(), trainer=sys.argv[3],
                        listener=lambda p: p.news and print(p.news, flush=True))
    except MnistLabError as error:
        _say(str(error), debug=False)
        sys.exit(error.exit_code)
    sys.exit(result.signal or bool(result.stopped))
"""


CONFIG = {
    "space": "fnn",
    "trials": 4,
    "epochs": 3,
    "study": "s",
    "pruner": "none",
    "workers": 1,
}


@pytest.fixture
def config(small_file):
    return {**CONFIG, "dataset": str(small_file)}


@pytest.fixture
def faults(monkeypatch):
    """Have trials of the fake trainer misbehave: see ``fakes.misbehave``."""
    monkeypatch.setenv("KERAS_BACKEND", "none")

    def faults(*each):
        monkeypatch.setenv("FAULTS", json.dumps(each))

    return faults


@pytest.fixture
def sweep(config, settings, faults):
    """A sweep in this process; its workers are others."""

    def sweep(*, trainer="fakes:run_trial", listener=lambda _: None, **changes):
        full = SweepConfig(**{**config, **changes})
        return launch(full, settings, trainer=trainer, listener=listener)

    return sweep


@pytest.fixture
def supervise(config, settings, faults):
    """A sweep in a process of its own, begun and left running; it can be made to die."""
    script = settings.root / "program.py"
    script.write_text(PROGRAM)
    started = []

    def supervise(die_at="", *, trainer="fakes:run_trial", environment=(), **changes):
        process = subprocess.Popen(
            [sys.executable, str(script), json.dumps({**config, **changes}), die_at, trainer],
            env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS / 'faults'}", **dict(environment)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        started.append(process)
        return process

    yield supervise
    for process in started:
        for child in children(process):
            child.kill()
        process.kill()
        process.communicate()


def children(process):
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def read_until(process, word):
    """The process's lines up to one that contains ``word``."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"{word!r} was never said: {lines}, {process.stderr.read()}")


@pytest.fixture
def study(settings):
    """The study as it stands now."""
    return lambda name="s": open_study(settings, name)


@pytest.fixture
def compare(request, study):
    """Hold MLflow against the study: one run a trial, with its state, params and whole curve."""

    def compare(name="s", client=None):
        client = client or request.getfixturevalue("client")
        told = study(name)
        experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn")
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
        runs = [run for run in runs if run.data.tags["mnist_lab.study"] == name]
        assert [run.info.run_name for run in runs if run.info.status == "RUNNING"] == []
        numbers = Counter(
            int(run.data.tags["mnist_lab.trial"])
            for run in runs
            if run.data.tags["mnist_lab.level"] == "trial"
        )
        assert numbers == Counter(trial.number for trial in told.trials() if trial.is_begun)
        for run in runs:
            if run.data.tags["mnist_lab.level"] != "trial":
                continue
            trial = told.study.trials[int(run.data.tags["mnist_lab.trial"])]
            assert run.data.tags["mnist_lab.state"] == STATES[trial.state]
            points = client.get_metric_history(run.info.run_id, "val_accuracy")
            steps = [(point.step, point.value) for point in points]
            expected = sorted(trial.intermediate_values.items())
            assert [step for step, _ in steps] == [step for step, _ in expected]
            assert [value for _, value in steps] == pytest.approx([v for _, v in expected])

    return compare


def states(study):
    return [trial.state.name for trial in study.trials()]


def values_by_epoch(study, number):
    """What Optuna was told of a trial's epochs."""
    return dict(sorted(study.study.trials[number].intermediate_values.items()))
