"""Where the next trial comes from, and what its parameters are: queued, recorded, or drawn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.errors import InvalidParamsError, UnknownNameError, first_line
from mnist_lab.execution import TrialFiles, TrialJob
from mnist_lab.search import Halving, SeenPoints, TrialSampler, as_stored, make_sampler, suggest
from mnist_lab.spaces import Names, Params, ParamValue, Question, SearchSpace, choose
from mnist_lab.study import SweepConfig, draw_seed, ledger, trial_seed
from mnist_lab.sweep.running_trial import RunningTrial


@dataclass(kw_only=True)
class TrialSource:
    """Says which trial is next, and answers what its model's code asks for.

    ``unfinished`` are those that an earlier sweep left in the middle; they come first. Then come
    paused trials that ``halving`` promotes, new ones, and those that are finished only to see
    whether pruning would have been right.
    """

    config: SweepConfig
    study: optuna.Study
    space: SearchSpace
    files: TrialFiles
    halving: Halving
    unfinished: list[FrozenTrial]
    _seen: SeenPoints = field(default_factory=SeenPoints, init=False)
    _names: Names = field(init=False)

    def __post_init__(self) -> None:
        self._names = Names(ledger.read_names(self.study))
        for trial in ledger.own_trials(self.study):
            if not self.space.asks or ledger.is_built(trial):
                self._seen.note(trial.number, trial.params, trial.distributions)

    def next(self, begun: int) -> RunningTrial | None:
        """Begin a trial or go on with one: its job is ready, its start is in the ledger.

        ``begun`` counts the trials that are finished or running; None when nothing is left to do.
        """
        if begun >= self.config.trials:  # the total may be less than it was
            return None
        if self.unfinished:
            return self._resume(self.unfinished.pop(0))
        wanted = begun + len(self.halving.paused) < self.config.trials
        promoted = self.halving.promote(all_asked=not wanted)
        if promoted is not None:
            return self._go_on(promoted)
        if wanted:
            return self._begin()
        audited = self.halving.audit()
        if audited is None:
            return None
        running = self._go_on(audited)
        ledger.write_audited(running.trial, len(running.history))
        return running

    def answer(self, running: RunningTrial, question: Question) -> ParamValue:
        """The value of a parameter that the model's code asks for.

        A trial that has it keeps it; then ``--set``, a queued point, the default where that is wanted,
        and the sampler are asked, in this order.

        Raises:
            InvalidParamsError: a value that was set or queued is none of the parameter's.
        """
        before = ledger.read_trial(self.study, running.number)
        queued = ledger.read_queued(before)
        name = self._name(question, {**queued, **before.params})
        running.sampler.given = self._wanted(question, name, queued, before.params)
        if running.sampler.given is None and ledger.takes_defaults(before):
            running.sampler.given = (question.default,)
        self.study.sampler = running.sampler
        try:
            value = suggest(running.trial, name, as_stored(question.distribution))
        except ValueError as error:  # it stands in the trial with other choices
            raise InvalidParamsError(f"{name}: {first_line(error)}.") from error
        return value

    def note_point(self, number: int) -> None:
        """All parameters of trial ``number`` are known: no other is to have the same."""
        trial = ledger.read_trial(self.study, number)
        self._seen.note(number, trial.params, trial.distributions)

    def _name(self, question: Question, known: Params) -> str:
        before = len(self._names.taken)
        name = self._names.key(question, known)
        if len(self._names.taken) != before:
            ledger.write_names(self.study, self._names.taken)
        return name

    def _wanted(
        self, question: Question, name: str, queued: Params, recorded: Params
    ) -> tuple[ParamValue] | None:
        """What ``--set`` or the queue say of a parameter, in its own type; None if neither does."""
        found = None
        if name in recorded:  # by another program, if the trial has not begun
            choose(question, recorded[name], "the trial's")
        if name in self.config.set:
            found = (choose(question, self.config.set[name], "--set"),)
        if name in queued:
            value = choose(question, queued[name], "the queued point's")
            if found is not None and found[0] != value:
                raise InvalidParamsError(
                    f"the queued point has {name}={value!r}, and --set keeps it at {found[0]!r}."
                )
            found = (value,)
        return found

    def _begin(self) -> RunningTrial:
        waiting = self._waiting()  # the baseline, the points of a grid
        number = waiting[0].number if waiting else self._count()
        sampler = self._sampler(number)
        self.study.sampler = sampler
        return self._start(self.study.ask(), sampler)

    def _resume(self, before: FrozenTrial) -> RunningTrial:
        if ledger.is_begun(before):
            return self._attempt(before, ledger.read_attempt(before) + 1)
        sampler = self._sampler(before.number)  # it was cut off while it drew
        self.study.sampler = sampler
        return self._start(optuna.Trial(self.study, before._trial_id), sampler)

    def _go_on(self, number: int) -> RunningTrial:
        before = ledger.read_trial(self.study, number)
        return self._attempt(before, ledger.read_attempt(before))

    def _start(self, trial: optuna.Trial, sampler: TrialSampler) -> RunningTrial:
        planned = ledger.read_planned_seed(trial)
        seed = trial_seed(self.config.seed, trial.number) if planned is None else planned
        running = RunningTrial(trial=trial, sampler=sampler, job=self._job(trial.number, {}, seed))
        try:
            params = self._draw(running)
        except InvalidParamsError as error:  # a queued point that is none of this space
            running.refused = error.problem
            params = {}
        ledger.write_start(trial, seed=seed, attempt=1)
        if params:
            self.note_point(trial.number)
        running.job = self._job(trial.number, params, seed)
        return running

    def _draw(self, running: RunningTrial) -> dict[str, ParamValue]:
        queued = ledger.read_queued(ledger.read_trial(self.study, running.number))
        if self.space.asks:
            return {}
        for name in queued:
            if name not in self.space.distributions:
                raise InvalidParamsError(
                    UnknownNameError("parameter", name, self.space.distributions).problem
                )
        return self.space.draw(partial(self._answer_declared, running))

    def _answer_declared(
        self, running: RunningTrial, name: str, distribution: BaseDistribution
    ) -> ParamValue:
        default = self.space.defaults[name]
        question = Question(name=name, distribution=distribution, default=default)
        return self.answer(running, question)

    def _attempt(self, before: FrozenTrial, attempt: int) -> RunningTrial:
        sampler = self._sampler(before.number)
        self.study.sampler = sampler
        trial, seed = optuna.Trial(self.study, before._trial_id), ledger.read_seed(before)
        fruitless, history = (
            ledger.read_attempts_without_progress(before),
            list(ledger.read_history(before)),
        )
        ledger.write_start(
            trial, seed=seed, attempt=attempt, fruitless=fruitless, epochs=len(history)
        )
        return RunningTrial(
            trial=trial,
            sampler=sampler,
            job=replace(
                self._job(before.number, {} if self.space.asks else before.params, seed),
                form=ledger.read_form(before),
            ),
            attempt=attempt,
            fruitless=fruitless,
            history=history,
            retried=ledger.read_retried(before),
            retrained=ledger.read_retrained(before),
            reported=frozenset(before.intermediate_values),
            pruned_at=ledger.read_pruned_at(before),
        )

    def _waiting(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    def _count(self) -> int:
        return len(self.study.get_trials(deepcopy=False))

    def _sampler(self, number: int) -> TrialSampler:
        # What ``--set`` keeps in a space that asks is known in its own type only when it is asked for.
        fixed = {} if self.space.asks else self.config.set

        def make(parameter: str) -> optuna.samplers.BaseSampler:
            return make_sampler(
                self.config.sampler,
                seed=self.config.seed,
                trial=number,
                fixed=fixed,
                parameter=parameter,
            )

        seed = draw_seed(self.config.seed, number, "unseen points")
        return TrialSampler(make, self._seen, seed, halving=bool(self.halving.rungs))

    def _job(self, number: int, params: Params, seed: int) -> TrialJob:
        return TrialJob(
            trial=number,
            study=self.study.study_name,
            study_id=self.files.owner,
            space=self.space.reference,
            space_digest=self.space.digest,
            space_sources=self.space.sources,
            params=params,
            epochs=self.config.epochs,
            seed=seed,
            folder=str(self.files.folder(number)),
            checkpoints=self.config.checkpoints,
        )
