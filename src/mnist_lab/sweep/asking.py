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
from mnist_lab.sweep.files import TrialFiles
from mnist_lab.sweep.running import RunningTrial
from mnist_lab.sweep.strategies import make_sampler, trial_seed
from mnist_lab.sweep.suggest import suggest


@dataclass(kw_only=True)
class Asker:
    """Asks the study for trials. ``unfinished`` are those of an earlier sweep; they come first."""

    config: SweepConfig
    study: optuna.Study
    space: SearchSpace
    files: TrialFiles
    unfinished: list[FrozenTrial]

    def next(self) -> RunningTrial:
        """Begin a trial, or go on with one: its job is ready, and its start is in the ledger."""
        before = self.unfinished.pop(0) if self.unfinished else None
        if before is not None:
            self._seed_sampler(before.number)  # it may have been cut off while it drew
            trial = optuna.Trial(self.study, before._trial_id)
        else:
            waiting = self._waiting()  # the baseline, the points of a grid
            self._seed_sampler(waiting[0].number if waiting else self._count())
            trial = self.study.ask()
        params = self.space.draw(partial(self._suggest, trial))
        if before is None or not ledger.is_begun(before):
            seed = trial_seed(self.config.seed, trial.number)
            ledger.write_start(trial, seed=seed, attempt=1, fruitless=0, epochs=0)
            return RunningTrial(trial=trial, job=self._job(trial.number, params, seed))
        seed, attempt = ledger.read_seed(before), ledger.read_attempt(before) + 1
        fruitless, history = ledger.read_fruitless(before), list(ledger.read_history(before))
        ledger.write_start(
            trial, seed=seed, attempt=attempt, fruitless=fruitless, epochs=len(history)
        )
        return RunningTrial(
            trial=trial,
            job=self._job(trial.number, params, seed),
            attempt=attempt,
            fruitless=fruitless,
            history=history,
            retried=ledger.read_retried(before),
            retrained=ledger.read_retrained(before),
            reported=frozenset(before.intermediate_values),
            pruned_at=ledger.read_pruned_at(before),
        )

    @property
    def exhausted(self) -> bool:
        """Whether a grid has no point left."""
        return self.config.sampler == "grid" and not (self.unfinished or self._waiting())

    def _waiting(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    def _count(self) -> int:
        return len(self.study.get_trials(deepcopy=False))

    def _suggest(
        self, trial: optuna.Trial, name: str, distribution: BaseDistribution
    ) -> ParamValue:
        self._seed_sampler(trial.number, name)
        return suggest(trial, name, distribution)

    def _seed_sampler(self, number: int, parameter: str = "") -> None:
        self.study.sampler = make_sampler(
            self.config.sampler,
            seed=self.config.seed,
            trial=number,
            fixed=self.config.set,
            parameter=parameter,
        )

    def _job(self, number: int, params: Params, seed: int) -> TrialJob:
        record = ledger.read_study(self.study)
        return TrialJob(
            trial=number,
            study=self.study.study_name,
            study_id=record.id if record is not None else "",
            space=self.space.reference,
            space_digest=self.space.digest,
            params=params,
            epochs=self.config.epochs,
            seed=seed,
            folder=str(self.files.folder(number)),
            checkpoints=self.config.checkpoints,
        )
