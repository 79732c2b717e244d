"""One run of one arm: a process tree from ``exec`` to exit in a home of its own, watched and ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

MIB = 2**20
POLL_SECONDS = 0.4
GRACE_SECONDS = 5.0  # for SIGTERM; after it SIGKILL
TAIL_LINES = 12
HERE = Path(__file__).parent

# The same for all: the CPU, no telemetry, no store or study but the run's own.
SAME = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PYTHONUNBUFFERED": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
FOREIGN = ("MLFLOW_TRACKING_URI", "MNIST_LAB_", "RAY_")


class Family:
    """A process and all its descendants, also those that left its group or outlived it."""

    def __init__(self, root: subprocess.Popen) -> None:
        self.root = root
        self.members: dict[int, psutil.Process] = {}

    def look(self) -> float:
        """MiB that they hold now. What they share is counted in each."""
        with suppress(psutil.Error):
            root = psutil.Process(self.root.pid)
            for member in (root, *root.children(recursive=True)):
                self.members.setdefault(member.pid, member)
        held = 0
        for member in list(self.members.values()):
            try:
                held += member.memory_info().rss
            except psutil.Error:
                del self.members[member.pid]
        return held / MIB

    def end(self) -> None:
        """End whoever is left: SIGTERM to the group, then SIGKILL to each."""
        self.look()
        if self.root.poll() is None:
            os.killpg(self.root.pid, signal.SIGTERM)
            try:
                self.root.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self.root.kill()
                self.root.wait()
        _, left = psutil.wait_procs(list(self.members.values()), GRACE_SECONDS)
        for member in left:  # psutil looks at start times: a number used again is not taken for it
            with suppress(psutil.Error):
                member.kill()


def run(arm: list[str], *, limit: float, target: float | None = None) -> dict[str, Any]:
    """Run ``arm``, a script of this folder and its arguments, and tell what was seen.

    ``outcome`` is ``reached`` (an epoch's validation accuracy was at least ``target``; the run was
    ended), ``censored`` (it was ended after ``limit`` seconds), ``ended`` (by itself, all done) or
    ``failed``. Seconds count from just before ``exec``.
    """
    # Short, because of Ray's sockets.
    home = Path(tempfile.mkdtemp(prefix="b-"))
    try:
        return _run([sys.executable, str(HERE / arm[0]), *arm[1:]], home, limit, target)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _run(words: list[str], home: Path, limit: float, target: float | None) -> dict[str, Any]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    output = home / "output.log"
    peak, outcome = 0.0, ""
    with output.open("wb") as log:
        began, clock = time.time(), time.monotonic()
        process = subprocess.Popen(
            [*words, "--home", str(home)],
            cwd=home,
            env=kept | SAME,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        family = Family(process)
        try:
            while not outcome:
                peak = max(peak, family.look())
                outcome = _judge(process, home, target, time.monotonic() - clock > limit)
            wall = time.monotonic() - clock
        finally:
            family.end()
    # Nothing that came after the end, while the processes had their grace.
    epochs = [epoch for epoch in read_epochs(home, began) if epoch[0] <= wall]
    return {
        "outcome": outcome,
        "target": target,
        "wall_s": round(wall, 2),
        "reached_s": next((each[0] for each in epochs if reaches(each, target)), None),
        "code": process.returncode,
        "peak_rss_mib": round(peak),
        "rows": count_rows(home / "mlflow.db"),
        "epochs": epochs,
        "tail": output.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        if outcome == "failed"
        else [],
    }


def _judge(process: subprocess.Popen, home: Path, target: float | None, late: bool) -> str:
    """Wait for one poll's time, and say how the run ended; empty if it goes on."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(POLL_SECONDS)
    if any(reaches(each, target) for each in read_epochs(home, 0.0)):
        return "reached"
    if process.returncode is not None:
        return "failed" if process.returncode else "ended"
    return "censored" if late else ""


def reaches(epoch: list, target: float | None) -> bool:
    return target is not None and epoch[3] >= target


def read_epochs(home: Path, began: float) -> list[list]:
    """Finished epochs by time: ``[seconds since began, trial, epoch, val_accuracy, seconds]``."""
    path = home / "epochs.jsonl"
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]  # the last line may be half written
    lines = [json.loads(line) for line in whole.splitlines()]
    keys = ("trial", "epoch", "val_accuracy", "seconds")
    return sorted([round(each["time"] - began, 3), *(each[key] for key in keys)] for each in lines)


def count_rows(database: Path) -> dict[str, int]:
    """How many runs, params and metric values MLflow has; empty if it has no database."""
    tables = ("runs", "params", "metrics")
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
            count = "select count(*) from {}".format
            return {name: opened.execute(count(name)).fetchone()[0] for name in tables}
    except sqlite3.Error:
        return {}
