"""Fakes at the seams: a trainer that needs no Keras, and an executor that needs no processes."""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing import parent_process
from pathlib import Path

import numpy as np

from mnist_lab.execution import (
    Decision,
    EpochFinished,
    Event,
    FailureReason,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.spaces import get_space
from mnist_lab.tracking import (
    FoundStudy,
    ModelRecord,
    SplitFacts,
    StudyRecord,
    StudySummary,
    TrialOutcome,
    TrialRecord,
)
from mnist_lab.training import Checkpoint, Checkpoints, EpochMetrics


def score(params, epoch):
    """A smooth, deterministic accuracy in [0, 1] with its best at a learning rate near 3e-3."""
    distance = abs(math.log10(float(params.get("learning_rate", 1e-3))) + 2.5)
    return max(0.1, 0.95 - 0.2 * distance) * (1 - 0.5**epoch)


def epoch_metrics(epoch, accuracy):
    return EpochMetrics(
        epoch=epoch,
        loss=1 - accuracy,
        accuracy=accuracy,
        val_loss=1 - accuracy,
        val_accuracy=accuracy,
        seconds=0.01,
        timestamp=time.time(),
    )


def finished(trial, best_epoch, value):
    return TrialFinished(
        trial=trial,
        best_epoch=best_epoch,
        scalars={
            "best_val_accuracy": value,
            "best_val_loss": 1 - value,
            "best_epoch": float(best_epoch),
            "fit_seconds": 0.1,
            "parameters": 100.0,
            "val_auroc_macro": 0.9,
            "val_cross_entropy": 1 - value,
        },
    )


def diverged(trial):
    detail = "loss is not finite in epoch 1"
    return TrialFailed(trial=trial, reason=FailureReason.DIVERGED, detail=detail)


def crash(trial, detail="signal 9"):
    return TrialFailed(trial=trial, reason=FailureReason.CRASHED, detail=detail)


def study_record(**changes):
    """The record of a study of a shipped space; its data set is nowhere, unless it is given."""
    space = get_space("fnn-v1")
    fields = {
        "id": "0123",
        "name": "s",
        "family": "fnn",
        "space": space.id,
        "reference": space.reference,
        "space_digest": space.digest,
        "dataset": "tiny",
        "dataset_source": "tiny",
        "dataset_digest": "d" * 64,
        "splits": {
            "train": SplitFacts(images=600, sha256="a" * 64),
            "validation": SplitFacts(images=120, sha256="b" * 64),
        },
        "epochs": 3,
        "settings": {"sampler": "tpe", "epochs": "3", "seed": "0"},
    }
    return StudyRecord(**{**fields, **changes})


def trial_record(trial=0, **changes):
    fields = {
        "trial": trial,
        "attempt": 1,
        "params": {"units_1": 32, "activation": "relu", "dropout": 0.1},
        "seed": 11,
        "baseline": trial == 0,
        "began": 1000.0,
    }
    return TrialRecord(**{**fields, **changes})


def outcome(state="complete", **changes):
    return TrialOutcome(**{"state": state, "ended": 2000.0, **changes})


def model_record(file, **changes):
    fields = {
        "study": "s",
        "trial": 0,
        "file": file,
        "ended": 2000.0,
        "best_epoch": 1,
        "scalars": {"best_val_accuracy": 0.5},
        "params": {"x": 1},
    }
    return ModelRecord(**{**fields, **changes})


def summary(state="complete", **changes):
    fields = {"metrics": {}, "tags": {}, "note": "n", "importances": {}}
    return StudySummary(**{"state": state, "ended": 3000.0, **fields, **changes})


def write_files(folder):
    figures = Path(folder) / "artifacts" / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    (figures / "curves.png").write_bytes(b"png")
    (Path(folder) / "model.keras").write_bytes(b"keras")


def misbehave(job: TrialJob, point: str, epoch: int) -> None:
    """Do what the environment variable FAULTS says for this trial, point and epoch.

    It is a JSON list of ``{"trial", "point", "epoch", "what", "times"}``; ``times`` (default 1) is
    counted in the study's folder, which outlives the worker.
    """
    for index, fault in enumerate(json.loads(os.environ.get("FAULTS", "[]"))):
        here = (job.trial, point, epoch)
        if here != (fault["trial"], fault.get("point", "epoch"), fault.get("epoch", 1)):
            continue
        counter = Path(job.folder).parent / f"fault-{index}"
        done = int(counter.read_text()) if counter.exists() else 0
        if done >= fault.get("times", 1):
            continue
        counter.write_text(str(done + 1))
        MISCHIEF[fault["what"]]()


def _fill_the_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def _eat_memory():
    _kept.append(np.ones(60 * 2**20))  # 480 MiB of doubles
    time.sleep(60)


_kept: list = []
MISCHIEF = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill the supervisor": lambda: os.kill(parent_process().pid, signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "hang": lambda: time.sleep(600),
    "fill the disk": _fill_the_disk,
    "eat memory": _eat_memory,
}


def run_trial(job: TrialJob, dataset, report):
    """A trainer for real worker processes, with real checkpoints.

    The parameter ``behaviour`` and the variable FAULTS make it misbehave.
    """
    if not job.epochs:  # a look at a space's model, which is none here
        return TrialFinished(trial=job.trial, best_epoch=0)
    behaviour = job.params.get("behaviour", "fine")
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "segfault":
        ctypes.string_at(0)
    if behaviour == "raise":
        raise RuntimeError("a mistake in a trainer")
    if behaviour == "fail":
        return diverged(job.trial)
    try:
        epochs = _train(job, report)
        misbehave(job, "end", len(epochs))
    except OSError as error:
        detail = f"{job.folder}: {error}"
        return TrialFailed(trial=job.trial, reason=FailureReason.DISK_FULL, detail=detail)
    write_files(job.folder)
    best = epochs[-1]
    return finished(job.trial, best.epoch, best.val_accuracy)


def _train(job, report):
    checkpoints = Checkpoints(Path(job.folder) / "checkpoints", job.identity)
    found = checkpoints.load()
    epochs = [EpochMetrics(**each) for each in found.state["epochs"]] if found else []
    misbehave(job, "start", len(epochs))
    if epochs:
        report(tuple(epochs))
    while len(epochs) < job.epochs:
        epoch = len(epochs) + 1
        misbehave(job, "epoch", epoch)
        time.sleep(float(job.params.get("epoch_seconds", os.environ.get("EPOCH_SECONDS", "0"))))
        epochs.append(epoch_metrics(epoch, score(job.params, epoch)))
        state = {"epochs": [asdict(each) for each in epochs]}
        checkpoints.save(Checkpoint(epoch=epoch, arrays={"a": np.arange(epoch)}, state=state))
        misbehave(job, "checkpoint", epoch)
        report(tuple(epochs))
    return epochs


def run_slow_trial(job: TrialJob, dataset, report):
    """As ``run_trial``, with epochs long enough for a test to interrupt it."""
    os.environ["EPOCH_SECONDS"] = "0.25"
    return run_trial(job, dataset, report)


class FakeExecutor:
    """Runs jobs in the caller's own thread, one epoch at each call of ``next_event``.

    ``results`` are ends by trial number, each used once if it is a list; ``checkpoints`` what a
    trial's folder would hold, by number, kept between executors when it is given.
    """

    def __init__(self, slots=1, *, results=None, on_epoch=None, checkpoints=None):
        self.slots = slots
        self.jobs: list[TrialJob] = []
        self.killed: list[TrialFailed] = []
        self.results = results or {}
        self.on_epoch = on_epoch or (lambda trial, epoch: None)
        self.checkpoints = {} if checkpoints is None else checkpoints
        self._events: deque[Event] = deque()
        self._active: dict[int, TrialJob] = {}

    def start(self):
        pass

    def connect(self, timeout):
        return True

    def submit(self, job):
        assert len(self._active) < self.slots
        self.jobs.append(job)
        self._active[job.trial] = job
        self._events.append(TrialStarted(trial=job.trial, worker=0))
        result = self._result(job.trial, TrialFailed)
        if result is not None:
            self._end(result)
        elif self.checkpoints.get(job.trial):
            self._announce(job.trial)
        else:
            self._next_epoch(job)

    def next_event(self, timeout):
        return self._events.popleft() if self._events else None

    def decide(self, trial, decision):
        if trial not in self._active:
            return  # killed meanwhile
        job = self._active[trial]
        done = len(self.checkpoints[trial])
        if decision is Decision.PAUSE:
            self._end(TrialPaused(trial=trial))
            return
        if done < job.epochs:
            self._next_epoch(job)
            return
        write_files(job.folder)
        result = self._result(trial, TrialFinished)
        self._end(result or finished(trial, done, score(job.params, done)))

    def kill(self, why):
        if why.trial in self._active:  # else its end is among the events already
            self.killed.append(why)
            self._end(why)

    def close(self):
        pass

    def _result(self, trial, kind):
        result = self.results.get(trial)
        if isinstance(result, list):
            return result.pop(0) if result and isinstance(result[0], kind) else None
        return result if isinstance(result, kind) else None

    def _next_epoch(self, job):
        done = self.checkpoints.setdefault(job.trial, [])
        epoch = len(done) + 1
        done.append(epoch_metrics(epoch, score(job.params, epoch)))
        self.on_epoch(job.trial, epoch)
        self._announce(job.trial)

    def _announce(self, trial):
        epochs = tuple(self.checkpoints[trial])
        self._events.append(EpochFinished(trial=trial, epochs=epochs))

    def _end(self, result):
        del self._active[result.trial]
        self._events.append(result)


def run_seeded_trial(job: TrialJob, dataset, report):
    """As ``run_trial``, with a real model and an accuracy that differs a little from seed to seed."""
    result = run_trial(job, dataset, report)
    if isinstance(result, TrialFinished):
        noise = np.random.default_rng([job.seed, job.params["units_1"]]).normal(0, 0.002)
        result.scalars["best_val_accuracy"] += float(noise)
        result.scalars["parameters"] = 100.0 + job.params["units_1"]
    return result


def run_failing_trial(job: TrialJob, dataset, report):
    """Every trial diverges."""
    return diverged(job.trial)


def run_signed_trial(job: TrialJob, dataset, report):
    """As ``run_trial``; the process that ran it is among its scalars."""
    result = run_trial(job, dataset, report)
    result.scalars["pid"] = float(os.getpid())
    return result


def run_telling_trial(job: TrialJob, dataset, report):
    """Say in the environment what precision the process was told."""
    ended = run_trial(job, dataset, report)
    return replace(ended, environment={"precision": os.environ["MNIST_LAB_PRECISION"]})


def run_clean_trial(job: TrialJob, dataset, report):
    """As ``run_trial``, in a process that has not the supervisor's modules: no fork of it."""
    if "pytest" in sys.modules:
        raise RuntimeError("this process was forked from the supervisor")
    return run_trial(job, dataset, report)


def answer(connection, function, *arguments):
    """In another process: send what ``function`` returns, and stay until the other end is closed."""
    connection.send(function(*arguments))
    with suppress(EOFError):
        connection.recv()


def has_imported(*names):
    return [name in sys.modules for name in names]


def threads_of_parent():
    """Names of the parent's threads but jemalloc's own, in pyarrow, which is told of forks."""
    tasks = Path(f"/proc/{os.getppid()}/task")
    names = [(task / "comm").read_text().strip() for task in tasks.iterdir()]
    return [name for name in names if name != "jemalloc_bg_thd"]


class Memory:
    """A tracker that remembers what it is told; ``open`` are the runs not closed yet.

    ``runs``, ``states`` and ``records`` are by trial number: of the study that was opened first. Trials
    of other studies, and replicas, are in them by their page and level, too.
    ``fault`` is called before every call with its name, and may raise: then nothing is done.
    ``lost`` is called after it: what it raises is an answer lost on its way.
    """

    def __init__(self, fault=lambda _: None, lost=lambda _: None):
        self.fault, self.lost = fault, lost
        self.pages: dict[str, str] = {}  # the state of each study's page
        self.open: dict[str, int] = {}
        self.runs: dict[object, str] = {}
        self.states: dict[object, str] = {}
        self.records: dict[object, list] = {}
        self.closed: list = []
        self.epochs: dict[str, dict] = {}
        self.models: list[int] = []
        self.logged: dict[str, str] = {}  # the model of each run
        self.summaries: list = []
        self.artifacts: list = []
        self.calls: list[str] = []

    def _call(self, name, work):
        self.fault(name)
        result = work()
        self.calls.append(name)
        self.lost(name)
        return result

    def _key(self, study, number):
        is_first = [study.page] == list(self.pages)[:1]
        return number if is_first and not study.confirms else (study.page, study.level, number)

    def open_study(self, study, figures=None, *, running=True):
        def work():
            if study.confirms:
                if study.page not in self.pages:
                    raise LookupError(study.page)
                return f"page-{study.page}"
            before = self.pages.get(study.page, "running")
            self.pages[study.page] = "running" if running else before
            return f"page-{study.page}"

        return self._call("open_study", work)

    def find_study(self, study):
        def work():
            if study.page not in self.pages:
                return None
            return FoundStudy(run=f"page-{study.page}", state=self.pages[study.page])

        return self._call("find_study", work)

    def find_trials(self, study, study_run):
        def work():
            numbers = {records[-1].trial for records in self.records.values()}
            keys = {number: self._key(study, number) for number in sorted(numbers)}
            return {number: self.states[key] for number, key in keys.items() if key in self.states}

        return self._call("find_trials", work)

    def open_trial(self, study, study_run, trial):
        def work():
            key = self._key(study, trial.trial)
            name = "-".join(map(str, key)) if isinstance(key, tuple) else key
            is_new = key not in self.runs
            run = self.runs.setdefault(key, f"run-{name}")
            self.records.setdefault(key, []).append(trial)
            if is_new or trial.outcome is None:
                self.open[run] = trial.trial
                self.states[key] = "running"
            return run

        return self._call("open_trial", work)

    def log_epochs(self, run, epochs):
        def work():
            for epoch in epochs:
                # One row a step and timestamp, as MLflow has it.
                self.epochs.setdefault(run, {})[epoch.epoch, epoch.timestamp] = epoch

        self._call("log_epochs", work)

    def close_trial(self, run, outcome):
        def work():
            self.open.pop(run, None)
            key = next(key for key, each in self.runs.items() if each == run)
            self.states[key] = outcome.state
            self.closed.append((run, outcome))
            found = outcome.artifacts and sorted(p.name for p in outcome.artifacts.rglob("*.png"))
            self.artifacts.append(found)

        self._call("close_trial", work)

    def log_model(self, run, model):
        def work():
            assert model.file.exists()
            if run not in self.logged:
                self.models.append(model.trial)
            return self.logged.setdefault(run, f"m-{run}")

        return self._call("log_model", work)

    def log_report(self, study, file, summary):
        def work():
            if study.page in self.pages:
                self.summaries.append(summary)
                self.artifacts.append(file.name)

        return self._call("log_report", work)

    def close_study(self, run, summary):
        def work():
            self.summaries.append(summary)
            self.pages[run.removeprefix("page-")] = summary.state

        self._call("close_study", work)


def run_starved_trial(job: TrialJob, dataset, report):
    """The real trainer in a process that may not take much more memory than it has."""
    import resource

    import keras  # noqa: F401 - what it takes by itself is not counted

    from mnist_lab.execution.trial import run_trial as train_really

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + 20 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return train_really(job, dataset, report)


def run_impossible_trial(job: TrialJob, dataset, report):
    """As ``run_trial``, but trial 1 claims an accuracy that none can be."""
    result = run_trial(job, dataset, report)
    if job.trial == 1:
        result.scalars["best_val_accuracy"] = float(os.environ["IMPOSSIBLE"])
    return result
