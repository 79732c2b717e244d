"""``Slot``: one worker on another machine, which is asked for each event of its trial.

The class knows nothing of Ray, which makes an actor of it. Nothing of Keras is imported before the
constructor has configured the process.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue

import psutil

from mnist_lab import __version__
from mnist_lab.data import Dataset
from mnist_lab.execution.messages import (
    EpochFinished,
    Event,
    Reply,
    TrialFinished,
    TrialJob,
)
from mnist_lab.execution.parcels import (
    Parcel,
    checkpoints_in,
    pack_checkpoints,
    pack_results,
    unpack,
    unpack_sources,
)
from mnist_lab.execution.resources import GPU_MEMORY_SHARE, find_gpus
from mnist_lab.execution.worker import RunTrial, load_trainer, serve
from mnist_lab.training import Runtime, configure

SCRATCH = "mnist-lab-slots"
_CONFIG = "artifacts/config.json"
ALIKE = ("keras", "tensorflow", "numpy")  # packages on which a result depends


@dataclass(frozen=True, kw_only=True)
class SlotSpec:
    """The settings of one slot.

    ``gpu_share`` is the part of a GPU that it has, 0 for none; ``backend`` is Keras's.
    """

    index: int
    threads: int
    gpu_share: float
    backend: str
    precision: str | None
    trainer: str


@dataclass(frozen=True, kw_only=True)
class SlotFacts:
    """Where a slot runs, and the versions of what results depend on."""

    host: str
    pid: int
    device: str
    versions: Mapping[str, str]


def find_versions() -> dict[str, str]:
    """Return the versions of Python, mnist-lab and the packages that results depend on."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "mnist-lab": __version__}
    for package in ALIKE:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


class Slot:
    """A worker whose trainer runs in one thread: Keras's global state is that thread's.

    Its files lie in a folder of its own, and travel with the messages.
    """

    def __init__(self, spec: SlotSpec, dataset: Dataset) -> None:
        os.environ["KERAS_BACKEND"] = spec.backend
        runtime = _runtime(spec)
        configure(runtime)
        self._device = "cpu" if runtime.gpu is None else f"gpu {runtime.gpu}"
        self._jobs: SimpleQueue[TrialJob | Reply] = SimpleQueue()
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._folder = _make_scratch()
        self._sent: Mapping[str, bytes] = {}
        self._named: tuple[bytes, bytes] | None = None
        run_trial = load_trainer(spec.trainer)
        threading.Thread(
            target=self._serve, args=(run_trial, dataset, spec.index), daemon=True
        ).start()

    def hello(self) -> SlotFacts:
        """Answer when the imports are done."""
        return SlotFacts(
            host=platform.node(), pid=os.getpid(), device=self._device, versions=find_versions()
        )

    def begin(self, job: TrialJob, files: Parcel, sources: Parcel) -> None:
        """Begin ``job``, from the checkpoints in ``files``; ``sources`` are those of its space."""
        shutil.rmtree(self._folder, ignore_errors=True)
        trial = self._folder / f"trial-{job.trial}"
        trial.mkdir(parents=True)
        unpack(files, trial)
        self._sent, self._named = checkpoints_in(files), None
        if sources:
            unpack_sources(sources, self._folder / "space")
            name = job.space.replace("\\", "/").rpartition("/")[2]
            here = f"{self._folder / 'space' / name}"
            self._named = here.encode(), job.space.encode()
            job = replace(job, space=here)
        self._jobs.put(replace(job, folder=str(trial)))

    def next(self, reply: Reply | None = None) -> tuple[Event, Parcel]:
        """Give the trainer its answer, wait for its next event, and return it with the new files."""
        if reply is not None:
            self._jobs.put(reply)
        event = self._events.get()
        return event, self._news(event)

    def _news(self, event: Event) -> Parcel:
        trial = self._folder / f"trial-{event.trial}"
        if isinstance(event, TrialFinished):
            results = pack_results(trial)
            if self._named is not None and _CONFIG in results:
                # Of the file the record names the user's, not this machine's copy.
                results[_CONFIG] = results[_CONFIG].replace(*self._named)
            return results
        if not isinstance(event, EpochFinished):
            return {}
        news = pack_checkpoints(trial, without=self._sent)
        self._sent = {**self._sent, **checkpoints_in(news)}
        return news

    def _serve(self, run_trial: RunTrial, dataset: Dataset, index: int) -> None:
        try:
            serve(_Channel(self._jobs, self._events), run_trial, dataset, worker=index)
        except BaseException:  # a worker process would have died of it
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)


@dataclass(frozen=True)
class _Channel:
    """The trainer's end of the two queues of a slot."""

    jobs: SimpleQueue[TrialJob | Reply]
    events: SimpleQueue[Event]

    def send(self, event: Event) -> None:
        self.events.put(event)

    def recv(self) -> TrialJob | Reply:
        return self.jobs.get()


def _runtime(spec: SlotSpec) -> Runtime:
    """The share of the device that the cluster has given to this process."""
    if not spec.gpu_share:
        return Runtime(threads=spec.threads, precision=spec.precision)
    gpus = find_gpus()  # of those that CUDA_VISIBLE_DEVICES names
    index = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    limit = None
    if spec.gpu_share < 1:
        if not gpus:
            raise RuntimeError(
                "nvidia-smi finds no GPU here, so one that is shared could not be divided"
            )
        limit = int(gpus[0].memory_mb * GPU_MEMORY_SHARE * spec.gpu_share)
    return Runtime(
        threads=spec.threads, gpu=index or "0", gpu_memory_mb=limit, precision=spec.precision
    )


def _make_scratch() -> Path:
    """A folder for this process; those that killed ones have left are removed."""
    root = Path(tempfile.gettempdir()) / f"{SCRATCH}-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    is_mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_mine or found.st_mode & 0o077:  # code is run from here: nobody else may write it
        return Path(tempfile.mkdtemp(prefix=f"{SCRATCH}-"))
    for left in root.iterdir():
        if left.name.isdigit() and not psutil.pid_exists(int(left.name)):
            shutil.rmtree(left, ignore_errors=True)
    return root / str(os.getpid())
