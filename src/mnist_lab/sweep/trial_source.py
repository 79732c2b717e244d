"""``TrialSource``: trials opened, and their parameters: recorded, set, queued, or drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from mnist_lab.config import SweepConfig, parse_limits
from mnist_lab.errors import InvalidParamsError, UnknownNameError, first_line
from mnist_lab.execution import TrialFiles, TrialJob
from mnist_lab.search import (
    Choice,
    SeenPoints,
    TrialSampler,
    as_stored,
    make_sampler,
    suggest,
)
from mnist_lab.spaces import Names, Params, ParamValue, Question, SearchSpace, choose
from mnist_lab.study import Ledger, TrialFacts, draw_seed, reopen_trial, trial_seed
from mnist_lab.sweep.actions import TrialOpened


@dataclass(kw_only=True)
class OpenedTrial:
    """A trial that Optuna draws for, its sampler, and the job that a worker gets."""

    trial: optuna.Trial
    sampler: TrialSampler
    job: TrialJob


@dataclass(kw_only=True)
class TrialSource:
    """The source of a sweep's trials, and of the answers to a model's code.

    ``pauses``: the scheduler pauses trials, so samplers are shown unfinished ones as pruned.
    """

    config: SweepConfig
    study: Ledger
    space: SearchSpace
    files: TrialFiles
    pauses: bool
    opened: dict[int, OpenedTrial] = field(default_factory=dict, init=False)
    _seen: SeenPoints = field(default_factory=SeenPoints, init=False)
    _names: Names = field(init=False)
    _limits: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self._names = Names(self.study.names)
        self._limits = parse_limits(self.config.limit)
        for trial in self.study.trials():
            if not self.space.asks or trial.is_built:
                self._seen.note(trial.number, trial.params, trial.distributions)

    def open(self, choice: Choice, *, resumed: bool) -> TrialOpened:
        """Open the chosen trial: its job is ready in ``opened``, its start is written."""
        if choice.trial is None:
            return self._draw_new()
        before = self.study.trial(choice.trial)
        if not before.is_begun:  # interrupted while it drew
            return self._start(self._reopen(before.number))
        attempt = before.attempt + resumed
        found = self._attempt(before, attempt)
        if choice.audited:
            self.study.write(before.number).audited_at(len(before.history))
        return found

    def answer(self, number: int, question: Question) -> ParamValue:
        """Return the value of a parameter that the model's code asks for.

        A trial that has it keeps it. Else ``--set`` decides, then a queued point, the default where it
        is wanted, and last the sampler.

        Raises:
            InvalidParamsError: a value that was set or queued is none of the parameter's.
        """
        return self._answer(self.opened[number], question)

    def note_point(self, number: int) -> None:
        """Note that all parameters of trial ``number`` are known: no other is to have the same."""
        trial = self.study.trial(number)
        self._seen.note(number, trial.params, trial.distributions)

    def _answer(self, opened: OpenedTrial, question: Question) -> ParamValue:
        before = self.study.trial(opened.job.trial)
        name = self._name(question, {**before.queued, **before.params})
        opened.sampler.given = self._given(question, name, before)
        self.study.study.sampler = opened.sampler
        try:
            return suggest(opened.trial, name, as_stored(question.distribution))
        except ValueError as error:  # it stands in the trial with other choices
            raise InvalidParamsError(f"{name}: {first_line(error)}.") from error

    def _name(self, question: Question, known: Params) -> str:
        before = len(self._names.taken)
        name = self._names.key(question, known)
        if len(self._names.taken) != before:
            self.study.write_names(self._names.taken)
        return name

    def _given(self, question: Question, name: str, trial: TrialFacts) -> tuple[ParamValue] | None:
        """Return the value by ``--set``, the queue or the default; None if it is to be drawn."""
        found = None
        if name in trial.params:  # by another program, if the trial has not begun
            choose(question, trial.params[name], "the trial's")
        if name in self.config.set:
            found = (choose(question, self.config.set[name], "--set"),)
        if name in trial.queued:
            value = choose(question, trial.queued[name], "the queued point's")
            if found is not None and found[0] != value:
                raise InvalidParamsError(
                    f"the queued point has {name}={value!r}, and --set keeps it at {found[0]!r}."
                )
            found = (value,)
        if found is None and trial.takes_defaults:
            found = (question.default,)
        return found

    def _draw_new(self) -> TrialOpened:
        waiting = self.study.trials((TrialState.WAITING,))  # the baseline, the points of a grid
        sampler = self._sampler(waiting[0].number if waiting else self.study.count())
        self.study.study.sampler = sampler
        return self._start((self.study.study.ask(), sampler))

    def _reopen(self, number: int) -> tuple[optuna.Trial, TrialSampler]:
        sampler = self._sampler(number)
        self.study.study.sampler = sampler
        return reopen_trial(self.study.study, number), sampler

    def _start(self, drawn: tuple[optuna.Trial, TrialSampler]) -> TrialOpened:
        trial, sampler = drawn
        number, refused = trial.number, ""
        before = self.study.trial(number)
        planned = before.planned_seed
        seed = trial_seed(self.config.seed, number) if planned is None else planned
        opened = OpenedTrial(trial=trial, sampler=sampler, job=self._job(number, {}, seed))
        try:
            params = self._draw(opened, before.queued)
        except InvalidParamsError as error:  # a queued point that is none of this space
            params, refused = {}, error.problem
        self.study.write(number).start(seed=seed, attempt=1)
        if params:
            self.note_point(number)
            broken = self.space.broken_constraint(params)
            refused = f"not allowed: {broken}" if broken else ""
        opened.job = replace(opened.job, params=params)
        self.opened[number] = opened
        return TrialOpened(trial=before, refused=refused)

    def _draw(self, opened: OpenedTrial, queued: Params) -> dict[str, ParamValue]:
        if self.space.asks:
            return {}
        for name in queued:
            if name not in self.space.distributions:
                unknown = UnknownNameError("parameter", name, self.space.distributions)
                raise InvalidParamsError(unknown.problem)
        return self.space.draw(partial(self._answer_declared, opened))

    def _answer_declared(
        self, opened: OpenedTrial, name: str, distribution: BaseDistribution
    ) -> ParamValue:
        default = self.space.defaults[name]
        question = Question(name=name, distribution=distribution, default=default)
        return self._answer(opened, question)

    def _attempt(self, before: TrialFacts, attempt: int) -> TrialOpened:
        number = before.number
        trial, sampler = self._reopen(number)
        self.study.write(number).start(
            seed=before.seed,
            attempt=attempt,
            attempts_without_progress=before.attempts_without_progress,
            epochs=len(before.history),
        )
        params = {} if self.space.asks else before.params
        job = replace(self._job(number, params, before.seed), form=before.form)
        self.opened[number] = OpenedTrial(trial=trial, sampler=sampler, job=job)
        broken = self.space.broken_constraint(params)
        refused = f"not allowed: {broken}" if broken else ""
        return TrialOpened(trial=before, attempt=attempt, refused=refused)

    def _sampler(self, number: int) -> TrialSampler:
        # What ``--set`` keeps in a space that asks is known in its own type only when it is asked for.
        fixed = {} if self.space.asks else self.config.set

        def make(parameter: str) -> BaseSampler:
            return make_sampler(
                self.config.sampler,
                seed=self.config.seed,
                trial=number,
                fixed=fixed,
                parameter=parameter,
            )

        seed = draw_seed(self.config.seed, number, "unseen points")
        return TrialSampler(make, self._seen, seed, halving=self.pauses, limits=self._limits)

    def _job(self, number: int, params: Params, seed: int) -> TrialJob:
        return TrialJob(
            trial=number,
            study=self.study.name,
            study_id=self.files.owner,
            space=self.space.reference,
            space_digest=self.space.digest,
            space_sources=self.space.sources,
            params=params,
            epochs=self.config.epochs,
            seed=seed,
            folder=str(self.files.folder(number)),
            checkpoints=self.config.checkpoints,
            objective=self.config.objective,
            class_weights=self.config.class_weights,
            keep_predictions=self.config.keep_predictions,
            limits=self._limits,
            left_out=self.study.trial(number).left_out,
        )
