"""``SweepState``: the loop as a state machine. ``handle(event)`` returns the actions to carry out.

Nothing here reads or writes a file, a database, a process or a clock: the supervisor does, and reports
back with events. The order of the actions matters: the study is written first, then the worker is
answered, then the tracker is written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from mnist_lab.config import SweepConfig, is_possible
from mnist_lab.execution import (
    Decision,
    EpochFinished,
    FailureReason,
    ParameterAsked,
    TrialBuilt,
    TrialFailed,
    TrialFinished,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.search import (
    MAX_ATTEMPTS_WITHOUT_PROGRESS,
    REMEDIES,
    Choice,
    Remedy,
    Scheduler,
    SchedulerDecision,
    is_retryable,
    may_retry,
)
from mnist_lab.study import FINISHED, INTERRUPTED, Stopped, StopReason, TrialFacts
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
    TrialOpened,
    TrialOverdue,
)
from mnist_lab.training import EpochMetrics, ModelForm


@dataclass(kw_only=True)
class RunningTrial:
    """A trial that a worker has. ``failure`` was found here, and waits for the worker to leave.

    ``withdrawn``: no worker had begun it when the sweep was stopped. ``moved`` counts the nodes that
    were lost under it since its last epoch. ``decision`` says what becomes of the trial when its
    worker has left it.
    """

    history: tuple[EpochMetrics, ...]
    attempt: int
    retried: list[str]
    moved: int = 0
    started: bool = False
    withdrawn: bool = False
    failure: TrialFailed | None = None
    decision: SchedulerDecision = SchedulerDecision.CONTINUE

    @property
    def newest(self) -> EpochMetrics | None:
        return self.history[-1] if self.history else None


class SweepState:
    """The state of a sweep: counts, running trials, the reason to stop.

    ``slots`` is how many trials run at once; ``asks``: parameters are known only when the model is
    built; ``trials`` are those of earlier sweeps.
    """

    def __init__(
        self,
        config: SweepConfig,
        scheduler: Scheduler,
        trials: Sequence[TrialFacts],
        *,
        slots: int,
        asks: bool = False,
    ) -> None:
        self.config = config
        self.scheduler = scheduler
        self.running: dict[int, RunningTrial] = {}
        self.counts: Counter[TrialState] = Counter(trial.state for trial in trials)
        self.epochs_trained = sum(len(trial.history) for trial in trials)
        self.slots = slots
        self._asks = asks
        self._opening = 0
        self._failures_in_a_row = 0
        self._stopped: Stopped | None = None
        self._form: dict[str, str] = {}
        for trial in trials:
            scheduler.restore(trial)
        # Interrupted trials come first.
        self.unfinished = [
            trial.number
            for trial in trials
            if trial.state == TrialState.RUNNING
            and not trial.is_foreign_run
            and trial.number not in scheduler.paused
        ]

    @property
    def finished(self) -> int:
        return sum(self.counts[state] for state in FINISHED)

    @property
    def is_idle(self) -> bool:
        """Whether no trial runs and none is to be opened: the sweep has ended."""
        return not self.running and not self._opening

    @property
    def stopped(self) -> Stopped | None:
        """The reason for opening no further trial; None while there is none."""
        failures = self._failures_in_a_row
        if failures >= self.config.max_failures and not self._leaves_trials:
            return Stopped(StopReason.FAILURES, f"{failures} trials in a row failed")
        return self._stopped

    @property
    def _leaves_trials(self) -> bool:
        """Whether running trials are left after their epoch; at a timeout they train to their end."""
        return self._stopped is not None and self._stopped.reason is not StopReason.TIMEOUT

    def _stop(self, stopped: Stopped) -> None:
        """Note why the sweep stops: a disk outranks an interruption, and that a timeout."""
        if not self._leaves_trials or stopped.reason is StopReason.DISK:
            self._stopped = stopped

    @property
    def ended(self) -> Stopped | None:
        """The reason why the sweep ended; None when its total was reached and a trial is not failed."""
        if self.finished < self.config.trials:
            return self.stopped or INTERRUPTED
        failed = self.counts[TrialState.FAIL]
        if failed == self.finished:
            return Stopped(StopReason.ALL_FAILED, f"all {failed} trials failed")
        return None

    def handle(self, event: SweepEvent) -> list[Action]:
        """Update the state for ``event``; return the actions to carry out, in order."""
        return [*self._handle(event), *self._fill(), *self._withdraw()]

    def _handle(self, event: SweepEvent) -> Iterator[Action]:  # noqa: C901, PLR0912 - one case an event
        match event:
            case SweepBegan():
                pass
            case SlotsChanged(count=count):
                self.slots = count
            case TrialOpened():
                yield from self._opened(event)
            case TrialStarted(trial=trial, worker=worker):
                self.running[trial].started = True
                yield _say(NewsKind.STARTED, f"trial {trial} started on worker {worker}")
            case ParameterAsked(trial=trial, question=question):
                yield AnswerQuestion(trial, question)
            case AnswerRefused(trial=trial, problem=problem):
                yield from self._refuse(trial, problem)
                yield _say(NewsKind.REFUSED, f"trial {trial} is refused")
            case TrialBuilt():
                yield from self._built(event)
            case EpochFinished():
                yield from self._epoch(event)
            case EpochsRecorded():
                yield from self._decide(event)
            case TrialFinished():
                yield from self._finish(event)
            case TrialPaused(trial=trial):
                yield from self._left(trial)
            case TrialFailed():
                yield from self._fail(event)
            case TrialOverdue(trial=trial):
                detail = f"longer than {self.config.trial_timeout:g} s"
                yield Kill(TrialFailed(trial=trial, reason=FailureReason.TIMEOUT, detail=detail))
            case StopRequested(stopped=stopped):
                self._stop(stopped)

    # Opening trials

    def _fill(self) -> Iterator[Action]:
        """Open a trial for every free worker; at the end, prune the paused trials."""
        while len(self.running) + self._opening < self.slots and not self.stopped:
            action = self._next()
            if action is None:
                break
            self._opening += 1
            yield action
        if self.is_idle and not self.stopped:
            left = max(0, self.config.trials - self.finished)
            for number in list(self.scheduler.paused)[:left]:
                yield from self._prune(number)

    def _next(self) -> OpenTrial | None:
        begun = self.finished + len(self.running) + self._opening
        if begun >= self.config.trials:  # the total may be less than it was
            return None
        if self.unfinished:
            return OpenTrial(Choice(self.unfinished.pop(0)), resumed=True)
        new_wanted = begun + len(self.scheduler.paused) < self.config.trials
        choice = self.scheduler.next(new_wanted=new_wanted)
        return None if choice is None else OpenTrial(choice)

    def _opened(self, event: TrialOpened) -> Iterator[Action]:
        trial, number = event.trial, event.trial.number
        self._opening -= 1
        self.running[number] = running = RunningTrial(
            history=trial.history, attempt=event.attempt, retried=list(trial.retried)
        )
        in_vain = trial.attempts_without_progress if trial.is_begun else 0
        if event.refused:
            failed = TrialFailed(trial=number, reason=FailureReason.INVALID, detail=event.refused)
            yield from self._fail(failed)
        elif in_vain >= MAX_ATTEMPTS_WITHOUT_PROGRESS:
            detail = f"{in_vain} attempts came no further, and their sweeps died"
            running.retried = [FailureReason.CRASHED] * self.config.retries
            failed = TrialFailed(trial=number, reason=FailureReason.CRASHED, detail=detail)
            yield from self._fail(failed)
        else:
            yield from self._submit(number)

    def _submit(self, number: int) -> Iterator[Action]:
        yield Submit(number)
        if not self._asks:  # else its run waits for its parameters
            yield Publish(number, running=True)

    # Answering workers

    def _built(self, event: TrialBuilt) -> Iterator[Action]:
        yield RecordForm(event.trial, event.form)
        yield Publish(event.trial, running=True)
        facts = ModelForm.from_dict(event.form).facts()
        if facts != self._form:  # else it was said already
            self._form = facts
            said = "; ".join(f"{name} {fact}" for name, fact in facts.items())
            yield _say(NewsKind.BUILT, f"trial {event.trial} is built: {said}")

    def _epoch(self, event: EpochFinished) -> Iterator[Action]:
        running, last = self.running[event.trial], event.epochs[-1]
        if not last.possible:
            problem = f"epoch {last.epoch} reports what cannot be: {last.metrics()}"
            yield from self._refuse(event.trial, problem)
            yield _say(NewsKind.REFUSED, f"trial {event.trial} epoch {last.epoch} is refused")
            return
        self.epochs_trained += max(0, len(event.epochs) - len(running.history))
        yield RecordEpochs(event.trial, event.epochs)

    def _decide(self, event: EpochsRecorded) -> Iterator[Action]:
        number, last = event.trial.number, event.epoch
        running = self.running[number]
        if len(event.trial.history) > len(running.history):
            running.moved = 0
        running.history = event.trial.history
        is_last = last.epoch >= self.config.epochs
        running.decision = self.scheduler.on_epoch(number, running.history, last.epoch)
        continues = running.decision is SchedulerDecision.CONTINUE
        goes_on = is_last or (continues and not self._leaves_trials)
        yield Reply(number, Decision.GO_ON if goes_on else Decision.PAUSE)
        yield Publish(number, running=True)
        for other in self.scheduler.hopeless():
            yield from self._prune(other)
        yield _say(
            NewsKind.EPOCH,
            f"trial {number} epoch {last.epoch}/{self.config.epochs} "
            f"{last.objective} {last.value:.4f} ({last.seconds:.1f} s)",
        )

    def _refuse(self, number: int, problem: str) -> Iterator[Action]:
        """Fail the trial when its worker has left it."""
        failed = TrialFailed(trial=number, reason=FailureReason.INVALID, detail=problem)
        self.running[number].failure = failed
        yield Reply(number, Decision.PAUSE)

    # Ending trials

    def _finish(self, event: TrialFinished) -> Iterator[Action]:
        objective = self.config.objective
        value = event.scalars.get(f"best_{objective}", math.nan)
        if not is_possible(objective, value):
            problem = f"best_{objective} is {value}, which it cannot be"
            failed = TrialFailed(trial=event.trial, reason=FailureReason.INVALID, detail=problem)
            yield from self._fail(failed)
            return
        self._failures_in_a_row = 0
        yield Complete(event, value)
        yield from self._end(event.trial, TrialState.COMPLETE)
        said = f"{objective} {value:.4f} in epoch {event.best_epoch}"
        yield _say(NewsKind.COMPLETE, f"trial {event.trial} complete: {said}")

    def _left(self, number: int) -> Iterator[Action]:
        running = self.running[number]
        epoch = len(running.history)
        if running.failure is not None:
            yield from self._fail(running.failure)
        elif running.decision is SchedulerDecision.PRUNE:
            yield from self._prune(number)
            yield _say(NewsKind.PRUNED, f"trial {number} pruned after epoch {epoch}")
        elif running.decision is SchedulerDecision.PAUSE:
            del self.running[number]
            self.scheduler.on_pause(number, epoch)
            yield Leave(number, paused=True)
            yield _say(NewsKind.PAUSED, f"trial {number} paused after epoch {epoch}")
        else:
            yield from self._leave(number, f"after epoch {epoch}")

    def _fail(self, event: TrialFailed) -> Iterator[Action]:
        number, running = event.trial, self.running[event.trial]
        reason, said = event.reason, f"{event.reason} ({event.detail})"
        if running.withdrawn and not running.started:
            yield from self._leave(number, event.detail, separator=": ")
        elif REMEDIES[reason] is Remedy.STOP:
            self._stop(Stopped(StopReason.DISK, said))
            yield from self._leave(number, said, separator=": ")
        elif self._is_interrupted and is_retryable(reason):
            yield from self._leave(number, said, separator=": ")
        elif self._may_retry(reason, running):
            running.retried.append(reason)
            running.attempt += 1
            running.started = False
            running.moved += reason == FailureReason.NODE_LOST
            yield Retry(number, tuple(running.retried), running.attempt)
            yield from self._submit(number)
            yield _say(NewsKind.RETRIED, f"trial {number} goes on in another worker: {said}")
        else:
            expected = reason == FailureReason.INFEASIBLE
            self._failures_in_a_row += not expected
            yield Fail(event)
            yield from self._end(number, TrialState.FAIL)
            if expected:
                yield _say(NewsKind.REFUSED, f"trial {number} is not trained: {event.detail}")
            else:
                yield _say(NewsKind.FAILED, f"trial {number} failed: {said}")

    def _may_retry(self, reason: FailureReason, running: RunningTrial) -> bool:
        return may_retry(reason, running.retried, retries=self.config.retries, moved=running.moved)

    def _withdraw(self) -> Iterator[Action]:
        """Take back what no worker has begun: on a full cluster it might never begin."""
        if not self.stopped:
            return
        for number, running in self.running.items():
            if not (running.started or running.withdrawn):
                running.withdrawn = True
                detail = "no worker had begun it"
                yield Kill(TrialFailed(trial=number, reason=FailureReason.NODE_LOST, detail=detail))

    @property
    def _is_interrupted(self) -> bool:
        return self._stopped is not None and self._stopped.reason is StopReason.INTERRUPTED

    def _leave(self, number: int, said: str, *, separator: str = " ") -> Iterator[Action]:
        """Leave a trial unfinished, to be resumed by the next sweep."""
        del self.running[number]
        yield Leave(number)
        yield Publish(number, running=False)
        yield _say(NewsKind.INTERRUPTED, f"trial {number} interrupted{separator}{said}")

    def leave_all(self) -> list[Action]:
        """Leave every running trial: the sweep ends now, in the middle of their epochs."""
        left = list(self.running)
        self.running.clear()
        self._opening = 0
        return [
            action for number in left for action in (Leave(number), Publish(number, running=False))
        ]

    def _prune(self, number: int) -> Iterator[Action]:
        self._failures_in_a_row = 0
        yield Prune(number)
        yield from self._end(number, TrialState.PRUNED)

    def _end(self, number: int, state: TrialState) -> Iterator[Action]:
        self.running.pop(number, None)
        self.scheduler.on_end(number, failed=state == TrialState.FAIL)
        self.counts[state] += 1
        yield Publish(number, running=False)


def _say(kind: NewsKind, text: str) -> Announce:
    return Announce(News(kind, text))
