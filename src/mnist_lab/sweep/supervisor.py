"""The sweep's loop: ask, run, tell. The ledger is written first, then the worker is answered, then
the tracker is told."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.execution import (
    EpochFinished,
    Event,
    Executor,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialStarted,
)
from mnist_lab.execution.messages import INVALID
from mnist_lab.spaces import SearchSpace
from mnist_lab.spaces.space import Params
from mnist_lab.sweep import ledger
from mnist_lab.sweep.config import SweepConfig
from mnist_lab.sweep.files import TrialFiles
from mnist_lab.sweep.progress import Progress, SweepResult
from mnist_lab.sweep.signals import StopRequest
from mnist_lab.sweep.strategies import make_sampler, trial_seed
from mnist_lab.sweep.suggest import suggest
from mnist_lab.sweep.summary import summarise
from mnist_lab.tracking import ModelRecord, StudyRecord, Tracker, TrialOutcome, TrialRecord
from mnist_lab.training import EpochMetrics

TICK_SECONDS = 0.5
Listener = Callable[[Progress], None]


@dataclass(kw_only=True)
class _Running:
    trial: optuna.Trial
    run: str
    reported: frozenset[int]
    history: list[EpochMetrics] = field(default_factory=list)
    pruned: bool = False
    interrupted: bool = False


@dataclass(kw_only=True)
class Supervisor:
    """Brings ``study`` to ``config.trials`` finished trials, or as near as it is let.

    Attributes:
        study: opened by ``create_study``; its unfinished trials are begun again.
        record: what the tracker writes on the study's page.
        executor: started; whoever made it closes it.
        stop: when requested, running trials end after their epoch and stay to be resumed.
        listener: is told a ``Progress`` after each event and each idle tick.
    """

    config: SweepConfig
    study: optuna.Study
    space: SearchSpace
    record: StudyRecord
    executor: Executor
    tracker: Tracker
    files: TrialFiles
    stop: StopRequest
    listener: Listener = lambda _: None
    _running: dict[int, _Running] = field(default_factory=dict, init=False)
    _unfinished: list[FrozenTrial] = field(default_factory=list, init=False)
    _states: Counter[TrialState] = field(default_factory=Counter, init=False)
    _failures_in_a_row: int = field(default=0, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _parent: str = field(default="", init=False)

    def run(self) -> SweepResult:
        trials = self.study.get_trials(deepcopy=False)
        self._unfinished = [trial for trial in trials if trial.state == TrialState.RUNNING]
        self._states.update(trial.state for trial in trials)
        self._parent = self.tracker.open_study(self.record, self.study.user_attrs.get("run"))
        self.study.set_user_attr("run", self._parent)
        self._close_open_runs(trials)
        finished_before = self._finished
        try:
            while self._fill():
                event = self.executor.next_event(TICK_SECONDS)
                self._tell_listener(self._handle(event) if event else "", finished_before)
        finally:
            # What still runs now was cut off by a second Ctrl-C or by a lost storage.
            result = self._result()
            try:
                for running in self._running.values():
                    self.tracker.close_trial(running.run, TrialOutcome(state="interrupted"))
                self._log_best_models()
            finally:
                self.tracker.close_study(self._parent, summarise(self.study, result.stopped))
        return result

    @property
    def _finished(self) -> int:
        return sum(self._states[state] for state in ledger.FINISHED)

    # Beginning trials

    def _close_open_runs(self, trials: list[FrozenTrial]) -> None:
        """Tell the tracker what a supervisor that was killed could not tell it any more."""
        still_open = self.tracker.open_runs(self._parent)
        for trial in trials:
            if ledger.read_run(trial) in still_open:
                self._project(trial)
        # Cut off between its run and its ledger: nobody else can be writing, the study is locked.
        for run in still_open - {ledger.read_run(trial) for trial in trials}:
            self.tracker.close_trial(run, TrialOutcome(state="interrupted"))

    def _fill(self) -> bool:
        """Give every free worker a trial; False when nothing runs and nothing more is wanted."""
        while len(self._running) < self.executor.slots and self._wants_more():
            if self._unfinished:
                again = self._unfinished.pop(0)
                self._seed_sampler(again.number)  # it may have been cut off while it drew
                trial = optuna.Trial(self.study, again._trial_id)
                self._begin(trial, frozenset(again.intermediate_values))
            else:
                self._begin(self._ask(), frozenset())
        return bool(self._running)

    def _wants_more(self) -> bool:
        enough = self._finished + len(self._running) >= self.config.trials
        return not enough and not self._why_stop()

    def _why_stop(self) -> str:
        config = self.config
        if self.stop.requested:
            return "interrupted"
        if self._failures_in_a_row >= config.max_failures:
            return f"{self._failures_in_a_row} trials in a row failed"
        if config.timeout is not None and time.monotonic() - self._began > config.timeout:
            return f"the timeout of {config.timeout:g} s has passed"
        if config.sampler == "grid" and not (self._unfinished or self._waiting()):
            return "every point of the grid is done"
        return ""

    def _waiting(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    def _ask(self) -> optuna.Trial:
        waiting = self._waiting()  # queued trials come first: the baseline, the points of a grid
        number = waiting[0].number if waiting else len(self.study.get_trials(deepcopy=False))
        self._seed_sampler(number)
        return self.study.ask()

    def _seed_sampler(self, number: int) -> None:
        self.study.sampler = make_sampler(
            self.config.sampler, seed=self.config.seed, trial=number, fixed=self.config.set
        )

    def _begin(self, trial: optuna.Trial, reported: frozenset[int]) -> None:
        number, attributes = trial.number, trial.user_attrs
        params = self.space.draw(lambda name, distribution: suggest(trial, name, distribution))
        seed = trial_seed(self.config.seed, number)
        attempt = int(attributes.get("attempt", 0)) + 1
        run = self.tracker.open_trial(
            TrialRecord(
                study=self.record,
                parent_run=self._parent,
                trial=number,
                attempt=attempt,
                params=params,
                seed=seed,
                baseline=bool(attributes.get("baseline")),
            )
        )
        ledger.write_start(trial, seed=seed, attempt=attempt, run=run)
        self._running[number] = _Running(trial=trial, run=run, reported=reported)
        broken = self.space.broken_constraint(params)
        if broken:
            self._fail(TrialFailed(trial=number, reason=INVALID, detail=f"not allowed: {broken}"))
        else:
            self.executor.submit(self._job(number, params, seed))

    def _job(self, number: int, params: Params, seed: int) -> TrialJob:
        return TrialJob(
            trial=number,
            study=self.study.study_name,
            space=self.space.reference,
            space_digest=self.space.digest,
            params=params,
            epochs=self.config.epochs,
            seed=seed,
            folder=str(self.files.begin(number)),
        )

    # Answering workers: each handler returns a line of news

    def _handle(self, event: Event) -> str:
        match event:
            case TrialStarted():
                return f"trial {event.trial} started on worker {event.worker}"
            case EpochFinished():
                return self._epoch(event)
            case TrialFinished():
                return self._finish(event)
            case TrialFailed():
                return self._fail(event)

    def _epoch(self, event: EpochFinished) -> str:
        running, metrics = self._running[event.trial], event.metrics
        running.history.append(metrics)
        ledger.write_history(running.trial, running.history)
        if metrics.epoch not in running.reported:  # an interrupted attempt may have come further
            running.trial.report(metrics.val_accuracy, metrics.epoch)
        if metrics.epoch < self.config.epochs:
            running.pruned = running.trial.should_prune()
            running.interrupted = self.stop.requested and not running.pruned
        self.executor.decide(event.trial, go_on=not (running.pruned or running.interrupted))
        self.tracker.log_epoch(running.run, metrics)
        return (
            f"trial {event.trial} epoch {metrics.epoch}/{self.config.epochs} "
            f"val_accuracy {metrics.val_accuracy:.4f} ({metrics.seconds:.1f} s)"
        )

    def _finish(self, event: TrialFinished) -> str:
        running = self._running[event.trial]
        if running.interrupted:
            del self._running[event.trial]
            self.tracker.close_trial(running.run, TrialOutcome(state="interrupted"))
            return f"trial {event.trial} interrupted after epoch {len(running.history)}"
        value = event.scalars.get("best_val_accuracy", math.nan)
        if not 0.0 <= value <= 1.0:
            problem = f"best_val_accuracy is {value}, which no accuracy can be"
            return self._fail(TrialFailed(trial=event.trial, reason=INVALID, detail=problem))
        ledger.write_result(running.trial, event)
        self._failures_in_a_row = 0
        if running.pruned:
            self._tell(event.trial, TrialState.PRUNED, None)
        else:
            self._tell(event.trial, TrialState.COMPLETE, value)
        word = "pruned" if running.pruned else "complete"
        return f"trial {event.trial} {word}: val_accuracy {value:.4f} in epoch {event.best_epoch}"

    def _fail(self, event: TrialFailed) -> str:
        ledger.write_failure(self._running[event.trial].trial, event.reason, event.detail)
        self._failures_in_a_row += 1
        self._tell(event.trial, TrialState.FAIL, None)
        return f"trial {event.trial} failed: {event.reason} ({event.detail})"

    def _tell(self, number: int, state: TrialState, value: float | None) -> None:
        self._project(self.study.tell(self._running[number].trial, value, state=state))
        del self._running[number]
        self._states[state] += 1
        self.files.keep_only({trial.number for trial in self._best_trials()} | set(self._running))

    def _project(self, trial: FrozenTrial) -> None:
        artifacts = self.files.artifacts(trial.number)
        outcome = replace(ledger.read_outcome(trial), artifacts=artifacts)
        self.tracker.close_trial(ledger.read_run(trial), outcome)
        self.files.drop_artifacts(trial.number)

    # Ending and looking

    def _best_trials(self) -> list[FrozenTrial]:
        return ledger.rank(self.study)[: self.config.keep_models]

    def _log_best_models(self) -> None:
        for trial in self._best_trials():
            if not self.files.model(trial.number).exists():
                continue  # logged before this sweep was resumed
            self.tracker.log_model(
                ledger.read_run(trial),
                ModelRecord(
                    study=self.study.study_name,
                    trial=trial.number,
                    file=self.files.model(trial.number),
                    best_epoch=ledger.read_best_epoch(trial),
                    scalars=ledger.read_scalars(trial),
                    params=trial.params,
                ),
            )
            self.files.drop(trial.number)

    def _result(self) -> SweepResult:
        failed = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        enough = self._finished >= self.config.trials
        stopped = "" if enough else self._why_stop() or "interrupted"
        if enough and len(failed) == self._finished:
            stopped = f"all {len(failed)} trials failed"
        return SweepResult(
            study=self.study.study_name,
            finished=self._finished,
            best=next(iter(ledger.rank(self.study)), None),
            reasons=dict(Counter(map(ledger.read_reason, failed))),
            stopped=stopped,
            signal=0 if enough else self.stop.exit_code,
        )

    def _tell_listener(self, news: str, finished_before: int) -> None:
        done = self._finished - finished_before
        rate = (time.monotonic() - self._began) / done if done else None
        self.listener(
            Progress(
                study=self.study.study_name,
                total=self.config.trials,
                epochs=self.config.epochs,
                complete=self._states[TrialState.COMPLETE],
                pruned=self._states[TrialState.PRUNED],
                failed=self._states[TrialState.FAIL],
                best=next(((each.number, each.value) for each in ledger.rank(self.study)), None),
                running={
                    number: running.history[-1] if running.history else None
                    for number, running in sorted(self._running.items())
                },
                seconds_left=rate and rate * (self.config.trials - self._finished),
                news=news,
            )
        )
