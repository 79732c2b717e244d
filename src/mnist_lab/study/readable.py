"""A study's storage as optuna-dashboard shows it: with names and attributes that people read."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from mnist_lab.study._optuna import METRIC_NAMES, Storage
from mnist_lab.study.record import read_record
from mnist_lab.study.stopped import read_stopped

_REST = "mnist-lab"  # the attribute that holds what only mnist-lab reads
_NOTE_VERSION, _NOTE_PART, _NOTE_LENGTH = "dashboard:note_ver", "dashboard:note_str:", 2045
_SAID = ("baseline", "reason", "detail")
_SCALARS = ("best_val_accuracy", "val_cross_entropy", "parameters", "best_epoch", "fit_seconds")


class ReadableStorage(Storage):
    """A storage whose studies have a named objective, a note, and few attributes.

    Nothing of that is written: it is made of the study's record where it is read, so that a sweep that
    runs is not disturbed. ``notes`` are Markdown by the study's name; a note that a user wrote in
    the dashboard is left as it is.
    """

    notes: dict[str, str]

    def get_all_studies(self) -> list[Any]:
        found = []
        for study in super().get_all_studies():
            shown = copy.copy(study)
            shown.user_attrs = _study_attributes(study.study_name, study.user_attrs)
            shown.system_attrs = self._system_attributes(
                study.study_name, study.user_attrs, study.system_attrs
            )
            found.append(shown)
        return found

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        name = self.get_study_name_from_id(study_id)
        return _study_attributes(name, super().get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._system_attributes(
            self.get_study_name_from_id(study_id),
            super().get_study_user_attrs(study_id),
            super().get_study_system_attrs(study_id),
        )

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials: Sequence[FrozenTrial] = super().get_all_trials(study_id, deepcopy, states)
        return [_shown(trial) for trial in trials]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return _shown(super().get_trial(trial_id))

    def _system_attributes(
        self, name: str, user: dict[str, Any], system: dict[str, Any]
    ) -> dict[str, Any]:
        record = read_record(user, name)
        if record is None:
            return system
        note = {} if _NOTE_VERSION in system else _as_note(self.notes.get(name, ""))
        return {METRIC_NAMES: [record.objective], **note, **system}


def _as_note(text: str) -> dict[str, Any]:
    """Return the attributes in which optuna-dashboard 0.21 keeps a note."""
    parts = range(0, len(text), _NOTE_LENGTH)
    pieces = {
        f"{_NOTE_PART}{place}": text[start : start + _NOTE_LENGTH]
        for place, start in enumerate(parts)
    }
    return {_NOTE_VERSION: 1, **pieces} if text else {}


def _study_attributes(name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    record = read_record(attributes, name)
    if record is None:
        return attributes
    stopped = read_stopped(attributes.get("stopped"))
    return {
        "space": record.space,
        "data set": record.dataset,
        "data": record.data,
        "objective": record.objective,
        "epochs": record.epochs,
        **{
            key: record.settings[key]
            for key in ("sampler", "pruner", "seed")
            if key in record.settings
        },
        **({"stopped": str(stopped)} if stopped else {}),
    }


def _shown(trial: FrozenTrial) -> FrozenTrial:
    attributes = trial.user_attrs
    if "start" not in attributes and "scalars" not in attributes:
        return trial
    scalars = attributes.get("scalars") or {}
    known = {name: scalars[name] for name in _SCALARS if name in scalars}
    said: dict[str, Any] = {name: attributes[name] for name in _SAID if name in attributes}
    seed = {"seed": attributes["start"]["seed"]} if "start" in attributes else {}
    rest = {key: value for key, value in attributes.items() if key not in said}
    shown = copy.copy(trial)
    shown.user_attrs = {**known, **said, **seed, _REST: rest}
    return shown
