"""Writing of a study's page, its trials' runs and its best models into the tracker; repeatable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mnist_lab.execution import TrialFiles
from mnist_lab.study import Tracked
from mnist_lab.tracking import ModelRecord, StudyRecord, StudySummary, Tracker, TrialRecord


class Figures(Protocol):
    """The seam to the drawing of figures.

    Once closed, both methods raise ``ConnectionAbortedError``.
    """

    def draw(self, folder: Path) -> None:
        """Draw the figures of the trial in ``folder``, if it has left anything to draw."""

    def draw_dataset(self, folder: Path) -> None:
        """Draw the figures of the data set into ``folder``, if that is not there."""

    def close(self) -> None:
        """Stop drawing, also while another thread waits for figures. Safe to call twice."""


class NoFigures:
    """Figures that are not drawn: for tests, and where none are wanted."""

    def draw(self, folder: Path) -> None:
        return None

    def draw_dataset(self, folder: Path) -> None:
        return None

    def close(self) -> None:
        return None


class TrackerWriter:
    """The writer of a study into the tracker; every step may fail and be repeated."""

    def __init__(
        self,
        study: StudyRecord,
        connect: Callable[[], Tracker],
        files: TrialFiles,
        *,
        figures: Figures | None = None,
        running: bool = True,
    ) -> None:
        """``running`` says that the study is being swept, and its run is to say so."""
        self._study = study
        self._connect = connect
        self._files = files
        self._figures = figures or NoFigures()
        self._is_running = running
        self._hurried = False
        self._tracker: Tracker | None = None
        self._parent = ""
        self._runs: dict[int, str] = {}
        self._sent: dict[int, int] = {}

    def connect(self) -> Tracker:
        """Return the tracker, connected."""
        if self._tracker is None:
            self._tracker = self._connect()
        return self._tracker

    def open(self) -> tuple[Tracker, str]:
        """Connect and open the study's run, if that is not done; return both."""
        tracker = self.connect()
        if not self._parent:
            if not self._study.confirms:  # else it stands on the page of the study that it confirms
                self._is_drawn(self._figures.draw_dataset, self._files.dataset_figures)
            self._parent = tracker.open_study(
                self._study, self._files.dataset_figures, running=self._is_running
            )
        return tracker, self._parent

    def trial(self, record: TrialRecord) -> Tracked:
        """Write the changes of a trial."""
        try:
            return self._trial(record)
        except BaseException:
            # What was written and what was not is unknown now: find the run again, send it all.
            self._forget(record.trial)
            raise

    def hurry(self) -> None:
        """Stop drawing: figures that are missing wait for the next sweep or ``sync``."""
        self._hurried = True
        self._figures.close()

    def model(self, record: ModelRecord, run: TrialRecord) -> None:
        """Log a trial's model with its run, and drop the file."""
        tracker, parent = self.open()
        tracker.log_model(self._runs.get(record.trial) or self._find(run, parent), record)
        self._files.drop_model(record.trial)

    def close(self, summary: StudySummary) -> None:
        """Write the study's summary, and close its run."""
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
            drawn = self._is_drawn(self._figures.draw, self._files.folder(number))
            tracker.close_trial(run, replace(record.outcome, artifacts=artifacts))
            closed = drawn and record.outcome.state != "interrupted"
            if closed:
                self._files.drop_artifacts(number)
            self._forget(number)
        return Tracked(trial=number, run=run, closed=closed)

    def _is_drawn(self, draw: Callable[[Path], None], folder: Path) -> bool:
        """Draw ``folder``; False if drawing was stopped by ``hurry``."""
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
