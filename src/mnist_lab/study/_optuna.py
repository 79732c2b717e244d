"""All private names of Optuna: a storage with one writer, a view for samplers, a faster TPE.

Each says what it gains, as measured; tests fail when a name moves.
"""

from __future__ import annotations

import copy
import json
import math
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache, cached_property
from typing import Any, cast

import optuna
import sqlalchemy
from optuna.distributions import (
    BaseDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.study.study import _SYSTEM_ATTR_METRIC_NAMES
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from mnist_lab.errors import (
    first_line,
)
from mnist_lab.execution import FailureReason
from mnist_lab.study.trials import MEASURED, is_managed

METRIC_NAMES = _SYSTEM_ATTR_METRIC_NAMES  # of a study: what its values are called
FIELDS = ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values")


class SingleWriterStorage(_CachedStorage):
    """Optuna's cache for the only writer of a study, which need not read its own writes again.

    A supervisor is the only writer of its study, so what it has read once and written
    since is all there is. What is only half a fact waits for the other half and shares its
    transaction: parameters, and what a sampler notes of them, for the trial's start; an epoch's
    value for its history. A commit is a write to the disk, 1 ms on an idle one and 12 ms beside
    workers that write checkpoints.

    User attributes and states are not held back: when a method returns, the database has them.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._read: set[int] = set()
        self._unfinished: defaultdict[int, set[int]] = defaultdict(set)
        self._attributes: dict[int, dict[str, Any]] = {}
        self._unwritten: dict[int, list[models.BaseModel]] = {}

    # Reading

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        if study_id not in self._read:
            self._read_trials_from_remote_storage(study_id)
            self._read.add(study_id)
        trials = self._studies[study_id].trials  # by number: so they were read and made
        if states is None:
            found = list(trials.values())
        elif any(state in states for state in TrialState if state.is_finished()):
            found = [trial for trial in trials.values() if trial.state in states]
        else:  # several times a trial, and most of ten thousand are finished
            unfinished = (trials[number] for number in sorted(self._unfinished[study_id]))
            found = [trial for trial in unfinished if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        place = self._trial_id_to_study_id_and_number.get(trial_id)
        if place is None:
            return self._backend.get_trial(trial_id)
        found = copy.copy(self._studies[place[0]].trials[place[1]])
        for field in FIELDS:  # whoever asked writes into them
            setattr(found, field, dict(getattr(found, field)))
        return found

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        if study_id not in self._attributes:
            self._attributes[study_id] = super().get_study_user_attrs(study_id)
        return self._attributes[study_id]

    # Writing

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_user_attr(study_id, key, value)
        self.get_study_user_attrs(study_id)[key] = value

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        row = models.TrialParamModel(
            trial_id=trial_id,
            param_name=param_name,
            param_value=param_value_internal,
            distribution_json=distribution_to_json(distribution),
        )
        self._hold(trial_id, row)
        value = distribution.to_external_repr(param_value_internal)
        self._note(trial_id, "params", param_name, value)
        self._note(trial_id, "distributions", param_name, distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        self._add_held(trial_id)
        done = super().set_trial_state_values(trial_id, state, values)
        if not done:  # it is not as it was known
            self._change(trial_id, **vars(self._backend.get_trial(trial_id)))
            return False
        self._change(trial_id, state=state)  # first: the database may be gone for the times
        if values is not None:
            self._change(trial_id, values=list(values))
        self._change(trial_id, **self._read_times(trial_id))
        return True

    def _read_times(self, trial_id: int) -> dict[str, datetime | None]:
        """Read from the database when the trial began and ended."""
        try:
            with Session(self._backend.engine) as session:
                row = models.TrialModel.find_or_raise_by_id(trial_id, session)
                names = ("datetime_start", "datetime_complete")
                return {name: getattr(row, name) for name in names}
        except SQLAlchemyError as error:
            raise StorageInternalError(str(error)) from error

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        # Optuna's ``Trial.report`` lets each step through once.
        kind = models.TrialIntermediateValueModel
        stored, stored_type = kind.intermediate_value_to_stored_repr(intermediate_value)
        row = kind(
            trial_id=trial_id,
            step=step,
            intermediate_value=stored,
            intermediate_value_type=stored_type,
        )
        self._hold(trial_id, row)
        self._note(trial_id, "intermediate_values", step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._add_held(trial_id)
        super().set_trial_user_attr(trial_id, key, value)
        self._note(trial_id, "user_attrs", key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial = self.get_trial(trial_id)
        # What a pruner notes comes after its epoch, and stands alone.
        if key in trial.system_attrs or trial.intermediate_values:
            self._add_held(trial_id)
            super().set_trial_system_attr(trial_id, key, value)
        else:
            row = models.TrialSystemAttributeModel(
                trial_id=trial_id, key=key, value_json=json.dumps(value)
            )
            self._hold(trial_id, row)
        self._note(trial_id, "system_attrs", key, value)

    def _add_trials_to_cache(self, study_id: int, trials: list[FrozenTrial]) -> None:
        super()._add_trials_to_cache(study_id, trials)
        self._unfinished[study_id].update(
            trial.number for trial in trials if not trial.state.is_finished()
        )

    def _hold(self, trial_id: int, row: models.BaseModel) -> None:
        self._unwritten.setdefault(trial_id, []).append(row)

    def _add_held(self, trial_id: int) -> None:
        """Add the held rows to the transaction of the write that follows."""
        rows = self._unwritten.pop(trial_id, ())
        if not rows:
            return
        session = self._backend.scoped_session()  # this thread's, which that write will have too
        try:
            session.add_all(rows)
            session.flush()
        except SQLAlchemyError as error:
            session.rollback()
            raise StorageInternalError(str(error)) from error

    def _note(self, trial_id: int, field: str, key: Any, value: Any) -> None:
        """Add one entry to a field that is a dictionary."""
        place = self._trial_id_to_study_id_and_number.get(trial_id)
        if place is not None:  # else it has not been read yet
            known = getattr(self._studies[place[0]].trials[place[1]], field)
            self._change(trial_id, **{field: {**known, key: value}})

    def _change(self, trial_id: int, **facts: Any) -> None:
        """Replace the known trial by a changed copy; a reader may have the known one."""
        place = self._trial_id_to_study_id_and_number.get(trial_id)
        if place is not None:
            trials = self._studies[place[0]].trials
            changed = copy.copy(trials[place[1]])
            for name, value in facts.items():
                setattr(changed, name, value)
            trials[place[1]] = changed
            if changed.state.is_finished():
                self._unfinished[place[0]].discard(place[1])


class Storage(RDBStorage):
    """Optuna's own storage, but for the first reading of a study.

    Optuna builds an object for every row: 9 s for 10,000 trials of 12 parameters, against 2 s here
    (measured). A test holds the result against Optuna's own.
    """

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is None and trial_id_greater_than < 0:
            try:
                return self._read_all(study_id)
            except sqlalchemy.exc.SQLAlchemyError as error:
                raise StorageInternalError(first_line(error)) from error
        return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)

    def _read_all(self, study_id: int) -> list[FrozenTrial]:
        trials = self._trials(study_id)  # first: what ends meanwhile is still running here
        params: dict[int, dict[str, Any]] = defaultdict(dict)
        distributions: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
        columns = ("param_name", "param_value", "distribution_json")
        for trial, name, value, text in self._rows(study_id, models.TrialParamModel, columns):
            distribution = _distribution(text)
            distributions[trial][name] = distribution
            params[trial][name] = distribution.to_external_repr(value)
        values = self._by_trial(
            study_id,
            models.TrialValueModel,
            ("objective", "value", "value_type"),
            models.TrialValueModel.stored_repr_to_value,
        )
        steps = self._by_trial(
            study_id,
            models.TrialIntermediateValueModel,
            ("step", "intermediate_value", "intermediate_value_type"),
            models.TrialIntermediateValueModel.stored_repr_to_intermediate_value,
        )
        attributes = ("key", "value_json")
        ours = self._by_trial(study_id, models.TrialUserAttributeModel, attributes, json.loads)
        optunas = self._by_trial(study_id, models.TrialSystemAttributeModel, attributes, json.loads)
        return [
            FrozenTrial(
                number=row.number,
                state=row.state,
                value=None,
                values=[value for _, value in sorted(values[row.trial_id].items())] or None,
                datetime_start=row.datetime_start,
                datetime_complete=row.datetime_complete,
                params=params[row.trial_id],
                distributions=distributions[row.trial_id],
                user_attrs=ours[row.trial_id],
                system_attrs=optunas[row.trial_id],
                intermediate_values=steps[row.trial_id],
                trial_id=row.trial_id,
            )
            for row in trials
        ]

    def _trials(self, study_id: int) -> Sequence[Any]:
        trial = models.TrialModel  # its objects, which turn stored times into local ones
        query = sqlalchemy.select(trial).where(trial.study_id == study_id).order_by(trial.trial_id)
        with Session(self.engine) as session:
            return session.scalars(query).all()

    def _rows(self, study_id: int, model: Any, columns: Sequence[str]) -> Sequence[Any]:
        trials, table = models.TrialModel.__table__, model.__table__
        query = (
            sqlalchemy.select(table.c.trial_id, *(table.c[name] for name in columns))
            .join(trials, trials.c.trial_id == table.c.trial_id)
            .where(trials.c.study_id == study_id)
            .order_by(*table.primary_key.columns)
        )
        with self.engine.connect() as connection:
            return connection.execute(query).all()

    def _by_trial(
        self, study_id: int, model: Any, columns: Sequence[str], read: Any
    ) -> dict[int, dict[Any, Any]]:
        found: dict[int, dict[Any, Any]] = defaultdict(dict)
        for trial, key, *stored in self._rows(study_id, model, columns):
            found[trial][key] = read(*stored)
        return found


@cache
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


# TPE's time grows with what it is shown; the newest of so many trials are as good a model.
WINDOW = 1000


_OF_THE_POINT = [str(reason) for reason in FailureReason if reason.belongs_to_point]
NOT_FOUND = models.NOT_FOUND_MSG  # a storage's message for a study that was deleted


class StudyView:
    """A view of ``study`` without trials of other programs; it only reads, and the trials once.

    Trials whose parameters made them fail are presented as PRUNED, without values: Optuna's samplers
    leave failed trials out, and would draw in a failing region again and again. One whose model is
    beyond one of the ``limits`` has that as a constraint, by how much of the limit it is beyond.

    With ``halving``, running trials that have reported a value are presented as PRUNED, too. Optuna's
    samplers take a running trial for a bad one, so that workers do not all try the same: of a trial
    that is paused at a rung, or trains on because it is good, that would be wrong. All else is the
    study's own, which may be a bracket of Hyperband.
    """

    def __init__(self, study: optuna.Study, *, halving: bool, limits: Mapping[str, float]) -> None:
        self._study = study
        self._limits = limits
        self._halving = halving

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @cached_property
    def _shown(self) -> list[FrozenTrial]:
        trials = self._study._get_trials(deepcopy=False)
        if not self._halving:
            return [self._as_seen(each) for each in trials if is_managed(each)]
        recent = (each for each in trials[-WINDOW:] if is_managed(each))
        return [_measured(self._as_seen(each)) for each in recent]

    def _as_seen(self, trial: FrozenTrial) -> FrozenTrial:
        """Return a trial that its parameters made fail as a pruned one without values."""
        if trial.state != TrialState.FAIL or trial.user_attrs.get("reason") not in _OF_THE_POINT:
            return trial
        pruned = copy.copy(trial)
        pruned.state = TrialState.PRUNED
        pruned.intermediate_values = {}  # a training that diverged late may have had good ones
        beyond = {
            name: value / self._limits[name] - 1
            for name, value in trial.user_attrs.get(MEASURED, {}).items()
            if value > self._limits.get(name, math.inf)
        }
        if beyond:
            pruned._system_attrs = dict(trial._system_attrs)
            for name, share in beyond.items():
                pruned.set_constraint(name, share)
        return pruned

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._shown if states is None or trial.state in states]

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)


def view(
    study: optuna.Study, *, halving: bool = False, limits: Mapping[str, float] | None = None
) -> optuna.Study:
    """Return a ``StudyView`` of ``study``, which Optuna takes for the study itself."""
    return cast(optuna.Study, StudyView(study, halving=halving, limits=limits or {}))


def _measured(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.RUNNING or not trial.intermediate_values:
        return trial
    pruned = copy.copy(trial)
    pruned.state = TrialState.PRUNED
    return pruned


def reopen_trial(study: optuna.Study, number: int) -> optuna.Trial:
    """Return the unfinished trial ``number`` of ``study``, as ``study.ask`` would return it."""
    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


@cache
def use_fast_tpe() -> None:
    """Give Optuna's TPE the logarithm of the normal distribution from SciPy, in one call.

    Its own takes the numbers one by one, in Python: two thirds of its time, and 150 times as long
    (measured). The values are the same to seven digits, which a test checks.
    """
    from scipy.special import log_ndtr

    with suppress(ImportError):  # another Optuna may have it elsewhere: TPE is slower then
        from optuna.samplers._tpe import _truncnorm

        _truncnorm._log_ndtr = log_ndtr
