"""Where the next trial comes from: one that was cut off, one that is queued, or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.execution import TrialJob
from mnist_lab.spaces import SearchSpace
from mnist_lab.spaces.space import Params, ParamValue
from mnist_lab.sweep import ledger
from mnist_lab.sweep.config import SweepConfig
from mnist_lab.sweep.fidelity import Halving
from mnist_lab.sweep.files import TrialFiles
from mnist_lab.sweep.running import RunningTrial
from mnist_lab.sweep.strategies import make_sampler, trial_seed
from mnist_lab.sweep.suggest import suggest


@dataclass(kw_only=True)
class Asker:
    """Says which trial is next.

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

    def _begin(self) -> RunningTrial:
        waiting = self._waiting()  # the baseline, the points of a grid
        self._seed_sampler(waiting[0].number if waiting else self._count())
        return self._start(self.study.ask())

    def _resume(self, before: FrozenTrial) -> RunningTrial:
        if ledger.is_begun(before):
            return self._attempt(before, ledger.read_attempt(before) + 1)
        self._seed_sampler(before.number)  # it was cut off while it drew
        return self._start(optuna.Trial(self.study, before._trial_id))

    def _go_on(self, number: int) -> RunningTrial:
        before = ledger.read_trial(self.study, number)
        return self._attempt(before, ledger.read_attempt(before))

    def _start(self, trial: optuna.Trial) -> RunningTrial:
        queued = ledger.read_queued(ledger.read_trial(self.study, trial.number))
        params = self.space.draw(partial(self._suggest, trial, queued))
        planned = ledger.read_planned_seed(trial)
        seed = trial_seed(self.config.seed, trial.number) if planned is None else planned
        ledger.write_start(trial, seed=seed, attempt=1)
        return RunningTrial(trial=trial, job=self._job(trial.number, params, seed))

    def _attempt(self, before: FrozenTrial, attempt: int) -> RunningTrial:
        trial, seed = optuna.Trial(self.study, before._trial_id), ledger.read_seed(before)
        fruitless, history = ledger.read_fruitless(before), list(ledger.read_history(before))
        ledger.write_start(
            trial, seed=seed, attempt=attempt, fruitless=fruitless, epochs=len(history)
        )
        return RunningTrial(
            trial=trial,
            job=self._job(before.number, before.params, seed),
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

    def _suggest(
        self, trial: optuna.Trial, queued: Params, name: str, distribution: BaseDistribution
    ) -> ParamValue:
        # Else it is known, or was drawn together with others.
        if name not in queued and name not in trial.relative_params:
            self._seed_sampler(trial.number, name)
        return suggest(trial, name, distribution)

    def _seed_sampler(self, number: int, parameter: str = "") -> None:
        self.study.sampler = make_sampler(
            self.config.sampler,
            seed=self.config.seed,
            trial=number,
            fixed=self.config.set,
            parameter=parameter,
            halving=bool(self.halving.rungs),
        )

    def _job(self, number: int, params: Params, seed: int) -> TrialJob:
        return TrialJob(
            trial=number,
            study=self.study.study_name,
            study_id=self.files.owner,
            space=self.space.reference,
            space_digest=self.space.digest,
            params=params,
            epochs=self.config.epochs,
            seed=seed,
            folder=str(self.files.folder(number)),
            checkpoints=self.config.checkpoints,
        )
