"""``FigureProcess``: a process beside the workers that draws figures while trainings go on."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from mnist_lab.execution.files import ARTIFACTS, PREDICTIONS
from mnist_lab.execution.forkserver import start_process
from mnist_lab.execution.worker import end_with_parent, print_to

# Drawing gives way to training where the two want one core (a quarter of it is left), but not so much
# that all figures of a sweep of short trials would be drawn after its end.
NICENESS = 5
_TRIAL, _DATASET = "trial", "dataset"


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """The data set and the log of a figure process.

    ``dataset``, ``image_size`` and ``data_folder`` are those of ``load_dataset``; the data must have
    ``digest``. ``log`` takes the errors.
    """

    dataset: str
    digest: str
    data_folder: Path
    log: Path
    image_size: int | None = None


class FigureProcess:
    """A process that draws figures, started at the first of them."""

    def __init__(self, spec: FigureSpec) -> None:
        self._spec = spec
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._closed = False
        self._ending = threading.Lock()

    def draw(self, folder: Path) -> None:
        """Draw the figures of the trial in ``folder``, and wait for them.

        A drawing that fails costs its figures only: the reason is in the log.

        Raises:
            ConnectionAbortedError: the process was closed before they were drawn.
        """
        self._ask_for(_TRIAL, folder, (folder / PREDICTIONS).exists)

    def draw_dataset(self, folder: Path) -> None:
        """Draw the figures of the data set into ``folder``, and wait for them."""
        self._ask_for(_DATASET, folder, lambda: not folder.exists())

    def _ask_for(self, what: str, folder: Path, is_wanted: Callable[[], bool]) -> None:
        for _ in range(2):  # a process that died is followed by another, once
            if not is_wanted():
                return
            if self._closed:
                raise ConnectionAbortedError("The figures were given up.")
            try:
                connection = self._connection or self._start()
                connection.send((what, folder))
                connection.recv()
            except (EOFError, OSError):
                self._end()

    def close(self) -> None:
        """End the process for good; it may be called twice, and while another thread waits.

        Safe to call twice, and while another thread waits for figures.
        """
        self._closed = True
        self._end()

    def _end(self) -> None:
        with self._ending:
            process, connection = self._process, self._connection
            self._process = self._connection = None
        if process is not None:
            process.kill()
            process.join()
        if connection is not None:
            connection.close()

    def _start(self) -> Connection:
        self._connection, theirs = Pipe()
        self._process = start_process(_work, self._spec, theirs, name="mnist-lab figures")
        theirs.close()
        return self._connection


def _work(spec: FigureSpec, connection: Connection) -> None:
    end_with_parent()
    print_to(spec.log)
    os.nice(NICENESS)
    os.environ["MPLBACKEND"] = "Agg"
    from mnist_lab.data import load_dataset
    from mnist_lab.errors import DataError
    from mnist_lab.evaluation.drawing import draw
    from mnist_lab.evaluation.figures import draw_dataset, save

    dataset = load_dataset(
        spec.dataset,
        image_size=spec.image_size,
        most_duplicates=1.0,
        data_folder=spec.data_folder,
    )
    if dataset.digest != spec.digest:  # better no figures than figures of other images
        raise DataError(f"{spec.dataset} is not the data that the trials were trained on.")
    while True:
        try:
            what, folder = connection.recv()
            try:
                if what == _DATASET:
                    unfinished = folder.with_name(f"{folder.name}.unfinished")
                    save(draw_dataset(dataset), unfinished)
                    unfinished.replace(folder)
                else:
                    draw(
                        folder / PREDICTIONS,
                        dataset.validation,
                        folder / ARTIFACTS,
                        dataset.form.class_names,
                    )
            except Exception:
                traceback.print_exc()  # into the log
            connection.send("drawn")
        except (EOFError, OSError):
            return
