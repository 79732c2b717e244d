"""The sweep's loop: ask, run, tell. The ledger is written first, then the worker is answered, then
the tracker is told."""

from __future__ import annotations

import bisect
import math
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.errors import InvalidParamsError
from mnist_lab.execution import (
    CRASHED,
    INVALID,
    TIMEOUT,
    Answer,
    Decision,
    EpochFinished,
    Event,
    Executor,
    ParameterAsked,
    TrialBuilt,
    TrialFailed,
    TrialFiles,
    TrialFinished,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.publish import BackgroundWriter, Backlog
from mnist_lab.report import best_models, best_of_each, interrupted_summary, summarise
from mnist_lab.search import (
    HALVING,
    MAX_ATTEMPTS_WITHOUT_PROGRESS,
    RETRIED,
    START_SECONDS,
    STOPS_THE_SWEEP,
    Halving,
    SchedulerDecision,
    may_retry,
)
from mnist_lab.spaces import SearchSpace
from mnist_lab.study import SweepConfig, ledger
from mnist_lab.sweep.progress import Listener, ProgressReporter, SweepResult
from mnist_lab.sweep.running_trial import RunningTrial
from mnist_lab.sweep.signals import StopRequest
from mnist_lab.sweep.trial_source import TrialSource
from mnist_lab.training import EpochMetrics, ModelForm

TICK_SECONDS = 0.5


@dataclass(kw_only=True)
class Supervisor:
    """Brings ``study`` to ``config.trials`` finished trials, or as near as it is let.

    Attributes:
        study: opened by ``create_study``; its unfinished trials go on from their checkpoints.
        executor: started; closed here, and by whoever made it if this is cut off.
        projector: started; closed here.
        stop: when requested, running trials are left after their epoch, to be resumed.
        listener: is told a ``Progress`` after each event and each idle tick.
    """

    config: SweepConfig
    study: optuna.Study
    space: SearchSpace
    executor: Executor
    projector: BackgroundWriter
    files: TrialFiles
    stop: StopRequest
    halving: Halving
    listener: Listener = lambda _: None
    _running: dict[int, RunningTrial] = field(default_factory=dict, init=False)
    _states: Counter[TrialState] = field(default_factory=Counter, init=False)
    _trained: int = field(default=0, init=False)
    _failures_in_a_row: int = field(default=0, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _halted: str = field(default="", init=False)
    _tracked: dict[int, ledger.Tracked] = field(default_factory=dict, init=False)
    _ranked: list[FrozenTrial] = field(default_factory=list, init=False)
    _source: TrialSource = field(init=False)
    _facts: dict[str, str] = field(default_factory=dict, init=False)

    def run(self) -> SweepResult:
        trials = ledger.own_trials(self.study)
        self._states.update(trial.state for trial in trials)
        self._trained = sum(len(ledger.read_history(trial)) for trial in trials)
        self._ranked = ledger.rank(self.study)
        source = self._source = TrialSource(
            config=self.config,
            study=self.study,
            space=self.space,
            files=self.files,
            halving=self.halving,
            unfinished=self._restore(trials),
        )
        watch = ProgressReporter(
            config=self.config,
            study=self.study,
            listener=self.listener,
            finished_before=self._finished,
            trained_before=self._trained,
            expected_epochs=self._expected_epochs(),
        )
        try:
            self._catch_up(trials)
            ledger.write_stopped(self.study, "interrupted")  # as long as nothing else is known
            while self._fill(source):
                event = self.executor.next_event(TICK_SECONDS)
                news = self._handle(event) if event else ""
                self._watch_the_clock()
                self._note_tracked()
                self._show(watch, news)
                complaint = watch.hear(self.projector.trouble)
                if complaint:
                    self._show(watch, complaint)
            self.executor.close()  # workers take a second to leave; figures are drawn meanwhile
        except StorageInternalError:  # nothing can be read any more
            self.projector.close((), interrupted_summary())
            raise
        except BaseException:  # a second signal, or a mistake of ours
            try:
                self._close_projection(source, hurry=True)
            except (StorageInternalError, KeyError):  # lost, or deleted
                self.projector.close((), interrupted_summary(), hurry=True)
            raise
        return self._result(*self._close_projection(source))

    def _restore(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Tell ``halving`` what the ledger has; return the trials that were left and do not wait."""
        unfinished = []
        for trial in trials:
            reached = len(ledger.read_history(trial))
            if trial.state != TrialState.FAIL:
                self.halving.record(trial.number, ledger.read_history(trial))
            if ledger.read_audited_at(trial) is not None:
                self.halving.exempt(trial.number)
            if trial.state != TrialState.RUNNING or ledger.is_anothers(trial):
                continue
            if reached in self.halving.rungs and not self.halving.is_exempt(trial.number):
                self.halving.pause(trial.number, reached)
            else:
                unfinished.append(trial)
        return unfinished

    def _show(self, watch: ProgressReporter, news: str) -> None:
        watch.tell(self._states, self._running, self._ranked[:1], self._trained, news)

    def _expected_epochs(self) -> int | None:
        ours = self.config.pruner in (HALVING, "none")
        return self.halving.expected_epochs(self.config.epochs) if ours else None

    @property
    def _finished(self) -> int:
        return sum(self._states[state] for state in ledger.FINISHED)

    def _catch_up(self, trials: list[FrozenTrial]) -> None:
        """Tell the tracker how trials ended that a supervisor was killed before it could tell."""
        tracked = ledger.read_tracked(self.study)
        for trial in trials:
            if trial.state in ledger.FINISHED and ledger.is_untracked(trial, tracked):
                self.projector.tell(ledger.read_record(trial))

    # Beginning trials

    def _fill(self, source: TrialSource) -> bool:
        """Give every free worker a trial; False when nothing runs and nothing more is wanted."""
        while len(self._running) < self.executor.slots and not self._why_stop():
            running = source.next(self._finished + len(self._running))
            if running is None:
                break
            self._running[running.number] = running
            broken = self.space.broken_constraint(running.job.params) if not running.refused else ""
            if broken or running.refused:
                detail = f"not allowed: {broken}" if broken else running.refused
                self._fail(TrialFailed(trial=running.number, reason=INVALID, detail=detail))
            elif running.fruitless >= MAX_ATTEMPTS_WITHOUT_PROGRESS:
                detail = f"{running.fruitless} attempts came no further, and their sweeps died"
                running.retried = [CRASHED] * self.config.retries
                self._fail(TrialFailed(trial=running.number, reason=CRASHED, detail=detail))
            else:
                self._submit(running)
        if not self._running and not self._why_stop():
            left = max(0, self.config.trials - self._finished)
            for number in list(self.halving.paused)[:left]:
                self._prune(number)
        return bool(self._running)

    def _submit(self, running: RunningTrial) -> None:
        if self.config.trial_timeout is not None:  # a worker may hang before it begins
            running.set_deadline(self.config.trial_timeout + START_SECONDS)
        self.files.begin(running.number)
        self.executor.submit(running.job)
        if running.job.params or not self.space.asks:  # else its run waits for its parameters
            self._project(running.number)

    def _why_stop(self) -> str:
        config = self.config
        if self._halted:
            return self._halted
        if self.stop.requested:
            return "interrupted"
        if self._failures_in_a_row >= config.max_failures:
            return f"{self._failures_in_a_row} trials in a row failed"
        if config.timeout is not None and time.monotonic() - self._began > config.timeout:
            return f"the timeout of {config.timeout:g} s has passed"
        return ""

    # Answering workers: each handler returns a line of news

    def _handle(self, event: Event) -> str:  # noqa: PLR0911 - one a kind of event
        match event:
            case TrialStarted():
                self._running[event.trial].set_deadline(self.config.trial_timeout)
                return f"trial {event.trial} started on worker {event.worker}"
            case ParameterAsked():
                return self._answer(event)
            case TrialBuilt():
                return self._built(event)
            case EpochFinished():
                return self._epoch(event)
            case TrialFinished():
                return self._finish(event)
            case TrialPaused():
                return self._pause(event)
            case TrialFailed():
                return self._fail(event)

    def _answer(self, event: ParameterAsked) -> str:
        running = self._running[event.trial]
        try:
            answer = Answer(value=self._source.answer(running, event.question))
        except InvalidParamsError as error:
            problem = error.problem
            running.failure = TrialFailed(trial=event.trial, reason=INVALID, detail=problem)
            self.executor.decide(event.trial, Decision.PAUSE)
            return f"trial {event.trial} is refused"
        self.executor.decide(event.trial, answer)
        return ""

    def _built(self, event: TrialBuilt) -> str:
        ledger.write_form(self._running[event.trial].trial, event.form)
        self._source.note_point(event.trial)
        self._project(event.trial)
        facts = ModelForm.from_dict(event.form).facts()
        if facts == self._facts:  # said already
            return ""
        self._facts = facts
        said = "; ".join(f"{name} {fact}" for name, fact in facts.items())
        return f"trial {event.trial} is built: {said}"

    def _epoch(self, event: EpochFinished) -> str:
        running, last = self._running[event.trial], event.epochs[-1]
        if not last.possible:
            problem = f"epoch {last.epoch} reports what cannot be: {last.metrics()}"
            running.failure = TrialFailed(trial=event.trial, reason=INVALID, detail=problem)
            self.executor.decide(event.trial, Decision.PAUSE)
            return f"trial {event.trial} epoch {last.epoch} is refused"
        self._trained += max(0, len(event.epochs) - len(running.history))
        running.record(event.epochs)
        self.halving.record(event.trial, running.history)
        self.executor.decide(event.trial, self._decide(running, last))
        self._project(event.trial)
        for number in self.halving.hopeless():
            self._prune(number)
        return (
            f"trial {event.trial} epoch {last.epoch}/{self.config.epochs} "
            f"val_accuracy {last.val_accuracy:.4f} ({last.seconds:.1f} s)"
        )

    def _decide(self, running: RunningTrial, last: EpochMetrics) -> Decision:
        if last.epoch >= self.config.epochs:
            return Decision.GO_ON
        pruned = running.should_prune(last)
        running.decision = (
            SchedulerDecision.PRUNE if pruned else self.halving.judge(running.number, last.epoch)
        )
        stays = (
            running.decision is SchedulerDecision.GO_ON
            and not self.stop.requested
            and not self._halted
        )
        return Decision.GO_ON if stays else Decision.PAUSE

    def _finish(self, event: TrialFinished) -> str:
        running = self._running[event.trial]
        value = event.scalars.get("best_val_accuracy", math.nan)
        if not 0.0 <= value <= 1.0:
            problem = f"best_val_accuracy is {value}, which no accuracy can be"
            return self._fail(TrialFailed(trial=event.trial, reason=INVALID, detail=problem))
        ledger.write_result(running.trial, event)
        self._failures_in_a_row = 0
        self._tell(event.trial, TrialState.COMPLETE, value)
        return f"trial {event.trial} complete: val_accuracy {value:.4f} in epoch {event.best_epoch}"

    def _pause(self, event: TrialPaused) -> str:
        running = self._running[event.trial]
        if running.failure is not None:
            return self._fail(running.failure)
        epoch = len(running.history)
        if running.decision is SchedulerDecision.PRUNE:
            self._prune(event.trial)
            return f"trial {event.trial} pruned after epoch {epoch}"
        if running.decision is SchedulerDecision.PAUSE:
            ledger.write_left(self._running.pop(event.trial).trial)
            self.halving.pause(event.trial, epoch)
            return f"trial {event.trial} paused after epoch {epoch}"
        self._leave(event.trial)
        return f"trial {event.trial} interrupted after epoch {epoch}"

    def _fail(self, event: TrialFailed) -> str:
        running, said = self._running[event.trial], f"{event.reason} ({event.detail})"
        if event.reason in STOPS_THE_SWEEP:
            self._halted = said
            self._leave(event.trial)
            return f"trial {event.trial} interrupted: {said}"
        if self.stop.requested and event.reason in RETRIED:
            self._leave(event.trial)
            return f"trial {event.trial} interrupted: {said}"
        if may_retry(event, running.retried, retries=self.config.retries):
            running.retry(event.reason)
            self._submit(running)
            return f"trial {event.trial} goes on in another worker: {said}"
        ledger.write_failure(running.trial, event.reason, event.detail)
        self._failures_in_a_row += 1
        self._tell(event.trial, TrialState.FAIL, None)
        return f"trial {event.trial} failed: {said}"

    def _leave(self, number: int) -> None:
        """Leave a trial unfinished, to be resumed by the next sweep."""
        ledger.write_left(self._running.pop(number).trial)
        self._project(number)

    def _prune(self, number: int) -> None:
        self._failures_in_a_row = 0
        self._tell(number, TrialState.PRUNED, None)

    def _tell(self, number: int, state: TrialState, value: float | None) -> None:
        self.study.tell(number, value, state=state)
        self._running.pop(number, None)
        self.halving.paused.pop(number, None)
        self._states[state] += 1
        if state == TrialState.FAIL:
            self.halving.forget(number)
        if state == TrialState.COMPLETE:
            bisect.insort(self._ranked, ledger.read_trial(self.study, number), key=ledger.rank_key)
        else:
            self.files.drop_model(number)
        best = {trial.number for trial in best_of_each(self._ranked, self.config.keep_models)}
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.files.keep_models(best | {trial.number for trial in running})
        self._project(number)

    # The clock and the tracker

    def _watch_the_clock(self) -> None:
        if self.stop.overdue:
            raise KeyboardInterrupt
        for running in self._running.values():
            if running.overdue:
                running.set_deadline(None)
                detail = f"longer than {self.config.trial_timeout:g} s"
                why = TrialFailed(trial=running.number, reason=TIMEOUT, detail=detail)
                self.executor.kill(why)

    def _project(self, number: int) -> None:
        trial = ledger.read_trial(self.study, number)
        self.projector.tell(ledger.read_record(trial, running=number in self._running))

    def _note_tracked(self) -> None:
        for tracked in self.projector.collect():
            # A run that is open is found by its tags: only its end is worth a transaction.
            if tracked.closed and self._tracked.get(tracked.trial) != tracked:
                ledger.write_tracked(self.study, tracked)
                self._tracked[tracked.trial] = tracked
        if self.projector.disk_full:
            self._halted = f"disk_full ({self.projector.trouble})"

    # Ending and looking

    def _why_ended(self) -> str:
        """Empty when the total was reached and something came of it."""
        if self._finished < self.config.trials:
            return self._why_stop() or "interrupted"
        failed = self._states[TrialState.FAIL]
        return f"all {failed} trials failed" if failed == self._finished else ""

    def _close_projection(self, source: TrialSource, *, hurry: bool = False) -> tuple[str, Backlog]:
        """Say how it ended, in the ledger and to the tracker."""
        stopped = self._why_ended()
        for number in list(self._running):  # cut off
            self._leave(number)
        paused = (ledger.read_trial(self.study, number) for number in self.halving.paused)
        for trial in (*source.unfinished, *paused):  # from an earlier sweep, and not come to
            if ledger.is_begun(trial):
                self.projector.tell(ledger.read_record(trial))
        with suppress(StorageInternalError):  # a full disk will be found again
            ledger.write_stopped(self.study, stopped)
        # Models can wait for the next sweep, a signal cannot.
        hurry = hurry or (self.stop.requested and bool(stopped))
        models = () if hurry else best_models(self.study, self.files, self.config.keep_models)
        lag = self.projector.close(models, summarise(self.study), hurry=hurry)
        with suppress(StorageInternalError):
            self._note_tracked()
        return stopped, lag

    def _result(self, stopped: str, lag: Backlog) -> SweepResult:
        failed = ledger.own_trials(self.study, (TrialState.FAIL,))
        return SweepResult(
            study=self.study.study_name,
            total=self.config.trials,
            finished=self._finished,
            best=next(iter(self._ranked), None),
            reasons=dict(Counter(map(ledger.read_reason, failed))),
            stopped=stopped,
            signal=self.stop.exit_code if self._finished < self.config.trials else 0,
            lag=lag,
        )
