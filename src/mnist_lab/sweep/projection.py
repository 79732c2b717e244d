"""From the ledger into the tracker: a study's page, its trials' runs, its best models.

``Projection`` does it step by step and may be asked for any step again. ``Projector`` does it beside a
sweep, in a thread of its own: a tracker that is slow, absent or broken costs the training nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mnist_lab.errors import first_line, is_disk_full
from mnist_lab.sweep.files import TrialFiles
from mnist_lab.sweep.ledger import Tracked
from mnist_lab.sweep.progress import Lag
from mnist_lab.tracking import (
    ModelRecord,
    StudyRecord,
    StudySummary,
    Tracker,
    TrialOutcome,
    TrialRecord,
)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# How long the end of a sweep waits for a tracker that has failed or never answered, and for a working
# one to take what is left. What it does not take is in the study, for ``mnist-lab sync``.
PATIENCE_WITH_BROKEN_SECONDS = 1.5
PATIENCE_SECONDS = 60.0
PATIENCE_WITH_SIGNAL_SECONDS = 3.0


class Projection:
    """Brings the tracker in line with a study. Every step may fail and be repeated."""

    def __init__(
        self,
        study: StudyRecord,
        connect: Callable[[], Tracker],
        files: TrialFiles,
        *,
        draw: Callable[[Path], None] = lambda _: None,
        draw_dataset: Callable[[Path], None] = lambda _: None,
        stop_drawing: Callable[[], None] = lambda: None,
        running: bool = True,
    ) -> None:
        """``draw`` draws the figures of the trial in a folder, if it has left anything to draw;
        ``draw_dataset`` those of the data set into a folder, if that is not there; ``stop_drawing``
        makes both raise ``ConnectionAbortedError``, now and from now on. ``running`` says that the
        study is being swept, and its run is to say so."""
        self._study = study
        self._connect = connect
        self._files = files
        self._draw = draw
        self._draw_dataset = draw_dataset
        self._stop_drawing = stop_drawing
        self._is_running = running
        self._hurried = False
        self._tracker: Tracker | None = None
        self._parent = ""
        self._runs: dict[int, str] = {}
        self._sent: dict[int, int] = {}

    def connect(self) -> Tracker:
        """The tracker, which has answered at least once."""
        if self._tracker is None:
            self._tracker = self._connect()
        return self._tracker

    def open(self) -> tuple[Tracker, str]:
        """Connect and open the study's run, if that is not done; return both."""
        tracker = self.connect()
        if not self._parent:
            if not self._study.confirms:  # else it stands on the page of the study that it confirms
                self._is_drawn(self._draw_dataset, self._files.dataset_figures)
            self._parent = tracker.open_study(
                self._study, self._files.dataset_figures, running=self._is_running
            )
        return tracker, self._parent

    def trial(self, record: TrialRecord) -> Tracked:
        """Write what is new of a trial."""
        try:
            return self._trial(record)
        except BaseException:
            # What was written and what was not is unknown now: find the run again, send it all.
            self._forget(record.trial)
            raise

    def hurry(self) -> None:
        """Draw nothing any more: what is not drawn waits for the next sweep or ``sync``."""
        self._hurried = True
        self._stop_drawing()

    def model(self, record: ModelRecord, run: TrialRecord) -> None:
        """Log a trial's model with its run, and drop the file."""
        tracker, parent = self.open()
        tracker.log_model(self._runs.get(record.trial) or self._find(run, parent), record)
        self._files.drop_model(record.trial)

    def close(self, summary: StudySummary) -> None:
        """Write how the study stands, and close its run."""
        tracker, parent = self.open()
        tracker.close_study(parent, summary)

    def _trial(self, record: TrialRecord) -> Tracked:
        tracker, parent = self.open()
        number = record.trial
        run = self._runs.get(number) or self._find(record, parent)
        unsent = record.epochs[self._sent.get(number, 0) :]
        if unsent:
            tracker.log_epochs(run, unsent)
        self._sent[number] = len(record.epochs)
        closed = False
        if record.outcome is not None:
            artifacts = self._files.artifacts(number)
            drawn = self._is_drawn(self._draw, self._files.folder(number))
            tracker.close_trial(run, replace(record.outcome, artifacts=artifacts))
            closed = drawn and record.outcome.state != "interrupted"
            if closed:
                self._files.drop_artifacts(number)
            self._forget(number)
        return Tracked(trial=number, run=run, closed=closed)

    def _is_drawn(self, draw: Callable[[Path], None], folder: Path) -> bool:
        """Have ``folder`` drawn; False if that was given up in a hurry."""
        try:
            draw(folder)
        except ConnectionAbortedError:
            if not self._hurried:
                raise
            return False
        return True

    def _find(self, record: TrialRecord, parent: str) -> str:
        assert self._tracker is not None
        run = self._tracker.open_trial(self._study, parent, record)
        self._runs[record.trial] = run
        return run

    def _forget(self, trial: int) -> None:
        self._runs.pop(trial, None)
        self._sent.pop(trial, None)


class Projector:
    """Runs a ``Projection`` beside a sweep. Methods return at once, ``close`` in a bounded time."""

    def __init__(
        self, projection: Projection, *, reached: bool = False, local: bool = False
    ) -> None:
        """``reached``: the tracker has answered before; ``local``: its disk is this machine's."""
        self._projection = projection
        self._local = local
        self._lock = threading.Lock()
        self._pending: dict[int, TrialRecord] = {}  # only the newest record of a trial is of use
        self._running: dict[int, TrialRecord] = {}
        self._models: list[tuple[ModelRecord, TrialRecord]] = []
        self._summary: StudySummary | None = None
        self._tracked: queue.SimpleQueue[Tracked] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._closing = self._abandoned = False
        self._reached = reached
        self._last_success = 0.0
        self._thread = threading.Thread(target=self._work, name="projector", daemon=True)
        self.trouble = ""
        self.disk_full = False

    def start(self) -> None:
        self._thread.start()

    def tell(self, record: TrialRecord) -> None:
        """Have a trial written as it stands now."""
        with self._lock:
            self._pending[record.trial] = record
            self._running.pop(record.trial, None)
            if record.outcome is None:
                self._running[record.trial] = record
        self._wake.set()

    def collect(self) -> list[Tracked]:
        """What was written since the last call."""
        found = []
        while not self._tracked.empty():
            found.append(self._tracked.get())
        return found

    def close(
        self,
        models: Sequence[tuple[ModelRecord, TrialRecord]],
        summary: StudySummary,
        *,
        hurry: bool = False,
    ) -> Lag:
        """Write the rest, and what still runs as interrupted; then the summary and the models.

        Gives up on a tracker that does not take them, and in the end on any; sooner in a ``hurry``.
        """
        patience = PATIENCE_WITH_SIGNAL_SECONDS if hurry else PATIENCE_SECONDS
        if hurry:
            self._projection.hurry()
        with self._lock:
            interrupted = TrialOutcome(state="interrupted", ended=time.time())
            cut_off = {
                number: replace(record, outcome=interrupted)
                for number, record in self._running.items()
            }
            # First: a trial that has ended waits in a run that says so, or in the study.
            self._pending = {
                **cut_off,
                **{n: r for n, r in self._pending.items() if n not in cut_off},
            }
        self._models, self._summary = list(models), summary
        self._closing = True
        self._wake.set()
        began = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.02)
            now = time.monotonic()
            broken = bool(self.trouble) or not self._reached
            silent = now - max(began, self._last_success)
            if now - began > patience or (broken and silent > PATIENCE_WITH_BROKEN_SECONDS):
                break
        self._abandoned = True
        left = len(self._pending) + len(self._models) + (self._summary is not None)
        return Lag(left, self.trouble or "no answer") if left else Lag()

    def _work(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._abandoned:
            self._wake.wait()
            self._wake.clear()
            try:
                self._write_all()
                self.trouble, pause = "", FIRST_PAUSE_SECONDS
                if self._closing and self._summary is None:
                    return
            except Exception as error:  # whatever a server, a database or a disk answers
                self._note(error)
                self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                self._wake.set()

    def _sleep(self, seconds: float) -> None:
        """Wait before another try; not long when the sweep is waiting too."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._closing:
            time.sleep(0.05)
        time.sleep(0.1)

    def _note(self, error: Exception) -> None:
        self.trouble = first_line(error)
        self.disk_full = self._local and is_disk_full(error)

    def _write_all(self) -> None:
        """Write what there is to write; at the end, what one item refuses does not stop the next."""
        self._projection.connect()
        self._reached = True  # before the data set's figures are drawn, which may take seconds
        self._projection.open()
        refused: Exception | None = None
        for _ in range(len(self._pending)):
            if self._abandoned:
                return
            with self._lock:
                number, record = next(iter(self._pending.items()))
            written = False
            try:
                self._tracked.put(self._projection.trial(record))
                self._succeed()
                written = True
            except Exception as error:
                if not self._closing:
                    raise
                refused = error
                self._note(error)
            finally:
                with self._lock:
                    newest = self._pending.pop(number)
                    if newest is not record or not written:
                        self._pending[number] = newest  # behind the others
        if self._pending and refused is None:
            self._wake.set()  # told meanwhile
            return
        if self._summary is not None and not self._abandoned:
            self._projection.close(self._summary)
            self._summary = None
        while self._models and not self._abandoned:
            self._projection.model(*self._models[0])
            del self._models[0]
            self._succeed()
        if refused is not None:
            raise refused

    def _succeed(self) -> None:
        self._last_success = time.monotonic()
