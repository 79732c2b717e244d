"""Writing to the tracker in a thread beside a sweep: a slow or broken tracker costs no training."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mnist_lab.errors import is_disk_full
from mnist_lab.publish.writer import TrackerWriter
from mnist_lab.study import Tracked
from mnist_lab.tracking import (
    ModelRecord,
    StudySummary,
    TrialOutcome,
    TrialRecord,
    describe_trouble,
)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# How long the end of a sweep waits for a tracker that has failed or never answered, and for a working
# one to take what is left. What it does not take is in the study, for ``mnist-lab sync``.
PATIENCE_WITH_BROKEN_SECONDS = 1.5
PATIENCE_SECONDS = 60.0
PATIENCE_WITH_SIGNAL_SECONDS = 3.0


class BackgroundWriter:
    """A ``TrackerWriter`` in a thread beside a sweep.

    Methods return at once, ``close`` in a bounded time.
    """

    def __init__(
        self, writer: TrackerWriter, *, reached: bool = False, local: bool = False
    ) -> None:
        """``reached``: the tracker has answered before; ``local``: its disk is this machine's."""
        self._writer = writer
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
        self._thread = threading.Thread(target=self._work, name="tracker writer", daemon=True)
        self.trouble = ""
        self.disk_full = False

    def start(self) -> None:
        self._thread.start()

    def publish(self, record: TrialRecord) -> None:
        """Queue a trial to be written as it stands now."""
        with self._lock:
            self._pending[record.trial] = record
            self._running.pop(record.trial, None)
            if record.outcome is None:
                self._running[record.trial] = record
        self._wake.set()

    def collect(self) -> list[Tracked]:
        """Return the trials written since the last call."""
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
    ) -> Backlog:
        """Write the rest, and running trials as interrupted; then the summary and the models.

        It waits at most ``PATIENCE_SECONDS`` (3 s if ``hurry``), and 1.5 s for a failing tracker;
        returns what was not written.
        """
        patience = PATIENCE_WITH_SIGNAL_SECONDS if hurry else PATIENCE_SECONDS
        if hurry:
            self._writer.hurry()
        with self._lock:
            interrupted = TrialOutcome(state="interrupted", ended=time.time())
            interrupted_summary = {
                number: replace(record, outcome=interrupted)
                for number, record in self._running.items()
            }
            # First: a trial that has ended waits in a run that says so, or in the study.
            self._pending = {
                **interrupted_summary,
                **{n: r for n, r in self._pending.items() if n not in interrupted_summary},
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
        return Backlog(left, self.trouble or "no answer") if left else Backlog()

    def abandon(self) -> None:
        """Write nothing more."""
        self._abandoned = self._closing = True
        self._wake.set()

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
        self.trouble = describe_trouble(error)
        self.disk_full = self._local and is_disk_full(error)

    def _write_all(self) -> None:
        """Write everything queued; when closing, a refused item does not stop the next."""
        self._writer.connect()
        self._reached = True  # before the data set's figures are drawn, which may take seconds
        self._writer.open()
        refused: Exception | None = None
        for _ in range(len(self._pending)):
            if self._abandoned:
                return
            with self._lock:
                number, record = next(iter(self._pending.items()))
            written = False
            try:
                self._tracked.put(self._writer.trial(record))
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
            self._wake.set()  # queued meanwhile
            return
        if self._summary is not None and not self._abandoned:
            self._writer.close(self._summary)
            self._summary = None
        while self._models and not self._abandoned:
            self._writer.model(*self._models[0])
            del self._models[0]
            self._succeed()
        if refused is not None:
            raise refused

    def _succeed(self) -> None:
        self._last_success = time.monotonic()


@dataclass(frozen=True)
class Backlog:
    """The number of trials and models that the tracker has not taken, and the reason; empty if none."""

    items: int = 0
    why: str = ""
