"""``Artist``: a process beside the workers that draws figures while nobody waits for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from mnist_lab.execution.files import ARTIFACTS, PREDICTIONS
from mnist_lab.execution.worker import end_with_parent, print_to

# Drawing gives way to training where the two want one core (a quarter of it is left), but not so much
# that all figures of a sweep of short trials would be drawn after its end.
NICENESS = 5


@dataclass(frozen=True, kw_only=True)
class ArtistSpec:
    """``dataset`` and ``data_folder`` as ``load_dataset`` takes them; ``log`` takes complaints."""

    dataset: str
    data_folder: Path
    log: Path


class Artist:
    """Draws a trial's figures in a process of its own, which is started at the first of them."""

    def __init__(self, spec: ArtistSpec) -> None:
        self._spec = spec
        self._context = multiprocessing.get_context("spawn")
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._closed = False

    def draw(self, folder: Path) -> None:
        """Have the figures of the trial in ``folder`` drawn; returns when they are.

        A drawing that fails costs its figures only: the reason is in the log.
        """
        for _ in range(2):  # a process that died is followed by another, once
            if self._closed or not (folder / PREDICTIONS).exists():
                return
            try:
                connection = self._connection or self._start()
                connection.send(folder)
                connection.recv()
            except (EOFError, OSError):
                self._end()

    def close(self) -> None:
        """End the process, for good. Safe to call twice."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._connection = None

    def _start(self) -> Connection:
        self._connection, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_work, args=(self._spec, theirs), name="mnist-lab artist", daemon=True
        )
        # Ctrl-C is the supervisor's to answer, also while this child imports; a thread can pass on
        # its mask only.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return self._connection


def _work(spec: ArtistSpec, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent()
    print_to(spec.log)
    os.nice(NICENESS)
    os.environ["MPLBACKEND"] = "Agg"
    from mnist_lab.data import load_dataset
    from mnist_lab.evaluation.drawing import draw

    validation = load_dataset(spec.dataset, data_folder=spec.data_folder).validation
    while True:
        try:
            folder: Path = connection.recv()
            try:
                draw(folder / PREDICTIONS, validation, folder / ARTIFACTS)
            except Exception:
                traceback.print_exc()  # into the log
            connection.send("drawn")
        except (EOFError, OSError):
            return
