"""Points at which a supervisor can be made to die, for a process that a test starts."""

from __future__ import annotations

import functools
import os
import signal

# name: where, and at which call
POINTS = {
    "after ask": ("mnist_lab.study.trials:TrialWriter.start", "before", 2),
    "after start": ("mnist_lab.execution.local:LocalExecutor.submit", "after", 2),
    "before an epoch is written": ("mnist_lab.study.trials:TrialWriter.epochs", "before", 5),
    "after an epoch is written": ("mnist_lab.study.trials:TrialWriter.epochs", "after", 5),
    "before tell": ("mnist_lab.study.trials:TrialWriter.result", "after", 2),
    "after tell": ("mnist_lab.execution.files:TrialFiles.keep_models", "before", 2),
    "after the run is opened": ("mnist_lab.publish.writer:TrackerWriter._find", "after", 2),
    "before the run is closed": ("mnist_lab.execution.files:TrialFiles.artifacts", "before", 2),
    "after the run is closed": ("mnist_lab.execution.files:TrialFiles.drop_artifacts", "before", 2),
    "while models are logged": ("mnist_lab.tracking.mlflow_tracker:package_model", "after", 1),
    "before the study is closed": ("mnist_lab.publish.writer:TrackerWriter.close", "before", 1),
}


def die_at(point: str) -> None:
    """Have this process kill itself at ``point``, as ``kill -9`` would."""
    if not point:
        return
    where, when, count = POINTS[point]
    module_name, _, path = where.partition(":")
    holder = __import__(module_name, fromlist=["_"])
    *classes, name = path.split(".")
    for each in classes:
        holder = getattr(holder, each)
    original = getattr(holder, name)
    calls = [0]

    @functools.wraps(original)
    def deadly(*args, **options):
        calls[0] += 1
        if when == "before" and calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if when == "after" and calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, name, deadly)
