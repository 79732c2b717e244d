"""The study's storage as its only writer has it: written to the database, read from memory."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Container, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

FIELDS = ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values")


class Mirror(_CachedStorage):
    """Optuna's cache, which reads unfinished trials again and again, made to trust what it wrote.

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
        """When the database has it that the trial began and ended."""
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
        """Add what waits to the transaction of the write that follows."""
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
        """Put another trial in the place of the known one, which somebody may be reading."""
        place = self._trial_id_to_study_id_and_number.get(trial_id)
        if place is not None:
            trials = self._studies[place[0]].trials
            changed = copy.copy(trials[place[1]])
            for name, value in facts.items():
                setattr(changed, name, value)
            trials[place[1]] = changed
            if changed.state.is_finished():
                self._unfinished[place[0]].discard(place[1])
