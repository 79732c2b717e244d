"""``Supervisor``: carries out the actions of ``SweepState``, and keeps the clock; without any Keras."""

from __future__ import annotations

import bisect
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field

from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from mnist_lab.config import SweepConfig
from mnist_lab.errors import BusyError, InvalidParamsError
from mnist_lab.execution import Answer, Event, Executor, TrialFiles, TrialStarted
from mnist_lab.publish import BackgroundWriter, Backlog
from mnist_lab.report import best_models, best_of_each, interrupted_summary, summarise
from mnist_lab.search import START_SECONDS, Scheduler
from mnist_lab.spaces import SearchSpace
from mnist_lab.study import (
    FINISHED,
    INTERRUPTED,
    Ledger,
    Stopped,
    StopReason,
    StudyLock,
    Tracked,
    TrialFacts,
    is_untracked,
)
from mnist_lab.sweep.actions import (
    Action,
    Announce,
    AnswerQuestion,
    AnswerRefused,
    Complete,
    EpochsRecorded,
    Fail,
    Kill,
    Leave,
    News,
    NewsKind,
    OpenTrial,
    Prune,
    Publish,
    RecordEpochs,
    RecordForm,
    Reply,
    Retry,
    SlotsChanged,
    StopRequested,
    Submit,
    SweepBegan,
    SweepEvent,
    TrialOverdue,
)
from mnist_lab.sweep.progress import Listener, ProgressReporter, SweepResult
from mnist_lab.sweep.signals import StopRequest
from mnist_lab.sweep.state import SweepState
from mnist_lab.sweep.trial_source import TrialSource

TICK_SECONDS = 0.5


@dataclass(kw_only=True)
class Supervisor:
    """The loop that brings ``study`` to ``config.trials`` finished trials, unless it is stopped.

    Attributes:
        study: opened by ``create_study``; its unfinished trials go on from their checkpoints.
        executor: started; closed here, and by the caller if an exception leaves ``run``.
        writer: started; closed here.
        lock: of the study; another supervisor may have taken it while its database was away.
        stop: when requested, running trials are left after their epoch, to be resumed.
        listener: gets a ``Progress`` after each event and each idle tick.
    """

    config: SweepConfig
    study: Ledger
    space: SearchSpace
    executor: Executor
    writer: BackgroundWriter
    files: TrialFiles
    stop: StopRequest
    scheduler: Scheduler
    lock: StudyLock = field(default_factory=StudyLock)
    listener: Listener = lambda _: None
    _state: SweepState = field(init=False)
    _source: TrialSource = field(init=False)
    _reporter: ProgressReporter = field(init=False)
    _ranked: list[TrialFacts] = field(init=False)
    _deadlines: dict[int, float] = field(default_factory=dict, init=False)
    _tracked: dict[int, Tracked] = field(default_factory=dict, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)

    def run(self) -> SweepResult:
        """Run the loop, and return the sweep's result.

        Raises:
            StorageInternalError: the study cannot be read or written any more.
            BusyError: another supervisor has it now.
            KeyboardInterrupt: a second signal, or SIGTERM's grace is over.
        """
        self._set_up()
        try:
            self._publish_missing()
            self.study.write_stopped(INTERRUPTED)  # as long as nothing else is known
            self._watch_for_stop()
            self._handle(SweepBegan())
            while not self._state.is_idle:
                self._step(self.executor.next_event(TICK_SECONDS))
            self.executor.close()  # workers take a second to leave; figures are drawn meanwhile
        except StorageInternalError:  # nothing can be read any more
            self.writer.close((), interrupted_summary())
            raise
        except BusyError:  # another supervisor's study now: nothing of it is touched any more
            self.writer.abandon()
            raise
        except BaseException:  # a second signal, or a defect of mnist-lab
            try:
                self._close(hurry=True)
            except (StorageInternalError, KeyError):  # lost, or deleted
                self.writer.close((), interrupted_summary(), hurry=True)
            raise
        return self._result(*self._close())

    def _set_up(self) -> None:
        trials = self.study.trials()
        self._ranked = self.study.ranked()
        self._state = SweepState(
            self.config,
            self.scheduler,
            trials,
            slots=self.executor.slots,
            asks=self.space.asks,
        )
        self._source = TrialSource(
            config=self.config,
            study=self.study,
            space=self.space,
            files=self.files,
            pauses=self.scheduler.pauses,
        )
        self._reporter = ProgressReporter(
            study=self.study.name, state=self._state, listener=self.listener
        )

    def _publish_missing(self) -> None:
        """Publish how trials ended that a killed supervisor had not published."""
        tracked = self.study.tracked()
        for trial in self.study.trials(FINISHED):
            if is_untracked(trial, tracked):
                self.writer.publish(trial.record())

    # One turn of the loop

    def _step(self, event: Event | None) -> None:
        self.lock.verify()
        self._watch_for_stop()
        if self.executor.slots != self._state.slots:
            self._handle(SlotsChanged(self.executor.slots))
        if isinstance(event, TrialStarted):
            self._set_deadline(event.trial, 0.0)
        if event is not None:
            self._handle(event)
        if self.stop.overdue:
            raise KeyboardInterrupt
        for number in [each for each, end in self._deadlines.items() if time.monotonic() > end]:
            del self._deadlines[number]
            self._handle(TrialOverdue(number))
        self._note_tracked()
        if event is None:
            self._report()
        for news in (self._reporter.on_trouble(self.writer.trouble), self._reporter.on_wait()):
            if news is not None:
                self._report(news)

    def _handle(self, event: SweepEvent) -> None:
        """Carry out the state's actions; the event of an action is handled right after it."""
        actions = deque(self._state.handle(event))
        while actions:
            happened = self._carry_out(actions.popleft())
            if happened is not None:
                actions.extendleft(reversed(self._state.handle(happened)))

    def _watch_for_stop(self) -> None:
        """Stop for a signal, the sweep's time limit, or a full disk that the tracker has met."""
        timeout = self.config.timeout
        if timeout is not None and time.monotonic() - self._began > timeout:
            text = f"the timeout of {timeout:g} s has passed"
            self._handle(StopRequested(Stopped(StopReason.TIMEOUT, text)))
        if self.stop.requested:
            self._handle(StopRequested(INTERRUPTED))
        if self.writer.disk_full:
            text = f"disk_full ({self.writer.trouble})"
            self._handle(StopRequested(Stopped(StopReason.DISK, text)))

    def _set_deadline(self, trial: int, extra: float) -> None:
        if self.config.trial_timeout is not None:
            self._deadlines[trial] = time.monotonic() + self.config.trial_timeout + extra

    # Carrying out actions

    def _carry_out(self, action: Action) -> SweepEvent | None:  # noqa: C901, PLR0912 - a case an action
        match action:
            case OpenTrial(choice=choice, resumed=resumed):
                return self._source.open(choice, resumed=resumed)
            case Submit(trial=trial):
                self._set_deadline(trial, START_SECONDS)  # a worker may hang before it begins
                self.files.begin(trial)
                self._say_if_anew(trial)
                self.executor.submit(self._source.opened[trial].job)
            case AnswerQuestion():
                return self._answer(action)
            case RecordForm(trial=trial, form=form):
                self.study.write(trial).form(form)
                self._source.note_point(trial)
            case RecordEpochs(trial=trial, epochs=epochs):
                self.study.write(trial).epochs(self.study.trial(trial), epochs)
                return EpochsRecorded(self.study.trial(trial), epochs[-1])
            case Reply(trial=trial, decision=decision):
                self.executor.decide(trial, decision)
            case Retry(trial=trial, retried=retried, attempt=attempt):
                self.study.write(trial).retry(retried, attempt=attempt)
            case Leave(trial=trial):
                self._deadlines.pop(trial, None)
                self._source.opened.pop(trial, None)
                self.study.write(trial).left()
            case Complete(result=result, value=value):
                self.study.write(result.trial).result(result)
                self._end(result.trial, TrialState.COMPLETE, value)
            case Fail(failed=failed):
                self.study.write(failed.trial).failure(
                    failed.reason, failed.detail, failed.measured
                )
                self._end(failed.trial, TrialState.FAIL)
            case Prune(trial=trial):
                self._end(trial, TrialState.PRUNED)
            case Kill(why=why):
                self.executor.kill(why)
            case Publish(trial=trial, running=running):
                self.writer.publish(self.study.trial(trial).record(running=running))
            case Announce(news=news):
                self._report(news)
        return None

    def _say_if_anew(self, number: int) -> None:
        """Report a trial whose epochs are trained again: another machine has its checkpoints."""
        trained = len(self.study.trial(number).history)
        if trained and self.config.checkpoints and not self.files.has_checkpoints(number):
            text = f"trial {number} begins anew: its {trained} epochs left no checkpoint here"
            self._report(News(NewsKind.ANEW, text))

    def _answer(self, action: AnswerQuestion) -> SweepEvent | None:
        try:
            value = self._source.answer(action.trial, action.question)
        except InvalidParamsError as error:
            return AnswerRefused(action.trial, error.problem)
        self.executor.decide(action.trial, Answer(value=value))
        return None

    def _end(self, number: int, state: TrialState, value: float | None = None) -> None:
        """Finish the trial in the study, and keep the files of the best models only."""
        self._deadlines.pop(number, None)
        self.study.finish(number, state, value)
        self._source.opened.pop(number, None)
        if state == TrialState.COMPLETE:
            trial = self.study.trial(number)
            bisect.insort(self._ranked, trial, key=lambda each: each.rank_key)
        else:
            self.files.drop_model(number)
        best = {trial.number for trial in best_of_each(self._ranked, self.config.keep_models)}
        running = self.study.numbers((TrialState.RUNNING,))
        self.files.keep_models(best | set(running))

    # The tracker and the user

    def _report(self, news: News | None = None) -> None:
        self._reporter.report(next(iter(self._ranked), None), news)

    def _note_tracked(self) -> None:
        for tracked in self.writer.collect():
            # A run that is open is found by its tags: only its end is worth a transaction.
            if tracked.closed and self._tracked.get(tracked.trial) != tracked:
                self.study.write_tracked(tracked)
                self._tracked[tracked.trial] = tracked

    def _close(self, *, hurry: bool = False) -> tuple[Stopped | None, Backlog]:
        """Write how it ended, to the study and to the tracker."""
        stopped = self._state.ended
        if stopped is None and len(self.study.trials(FINISHED)) < self.config.trials:
            stopped = INTERRUPTED  # an exception came before the last end was written
        for action in self._state.leave_all():  # interrupted in the middle
            self._carry_out(action)
        for number in self._find_half_ended():
            self._carry_out(Leave(number))
            self._carry_out(Publish(number, running=False))
        for number in (*self._state.unfinished, *self.scheduler.paused):  # of an earlier sweep
            trial = self.study.trial(number)
            if trial.is_begun:
                self.writer.publish(trial.record())
        with suppress(StorageInternalError):  # a full disk will be found again
            self.study.write_stopped(stopped)
        # Models can wait for the next sweep, a signal cannot.
        hurry = hurry or (self.stop.requested and stopped is not None)
        models = () if hurry else best_models(self.study, self.files, self.config.keep_models)
        lag = self.writer.close(models, summarise(self.study), hurry=hurry)
        with suppress(StorageInternalError):
            self._note_tracked()
        return stopped, lag

    def _find_half_ended(self) -> list[int]:
        """Trials that the state has ended, and an exception kept from being finished."""
        running = self.study.numbers((TrialState.RUNNING,))
        return [number for number in running if number in self._source.opened]

    def _result(self, stopped: Stopped | None, lag: Backlog) -> SweepResult:
        failed = self.study.trials((TrialState.FAIL,))
        is_short = self._state.finished < self.config.trials
        return SweepResult(
            study=self.study.name,
            total=self.config.trials,
            finished=self._state.finished,
            best=next(iter(self._ranked), None),
            reasons=dict(Counter(trial.reason for trial in failed)),
            stopped=stopped,
            signal=self.stop.exit_code if is_short else 0,
            lag=lag,
        )
