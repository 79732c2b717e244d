"""``Ledger``: the typed records of a study. MLflow, tables and reports are written from it.

Other rooms see typed records only. ``Ledger.study`` is for Optuna's own functions: samplers, pruners,
importances.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.errors import ConfigurationError, MnistLabError, UnknownNameError
from mnist_lab.spaces import Params
from mnist_lab.study.names import is_safe_name
from mnist_lab.study.record import read_record
from mnist_lab.study.stopped import Stopped, read_stopped
from mnist_lab.study.trials import TrialFacts, TrialWriter, is_managed
from mnist_lab.tracking import State, StudyRecord

_STOPPED, _TRIAL_RUN, _NAMES = "stopped", "run:", "names"
_WARM_START = "warm_start"
_KEPT = "sealed:"  # earlier versions kept no other classes
_DIGITS = 16  # of a digest, in the name of an attribute


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """The run of a trial in the tracker, and whether that is closed for good."""

    trial: int
    run: str
    closed: bool


@dataclass(frozen=True, kw_only=True)
class WarmPoint:
    """A ``point`` of an earlier study, queued for a new one; ``value`` is what it reached there."""

    study: str
    trial: int
    value: float
    point: Params


class Ledger:
    """The typed records of one Optuna study. Finished trials are parsed once."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._finished: dict[int, TrialFacts] = {}

    # The study

    @property
    def name(self) -> str:
        return self.study.study_name

    @property
    def storage(self) -> BaseStorage:
        return self.study._storage

    @property
    def is_managed(self) -> bool:
        """Whether mnist-lab made the study, under a name that may name files."""
        found = read_record(self.study.user_attrs, self.name)
        return found is not None and bool(found.id) and is_safe_name(self.name)

    @cached_property
    def record(self) -> StudyRecord:
        """The facts that all trials of the study share.

        Raises:
            ConfigurationError: another program made the study.
        """
        found = read_record(self.study.user_attrs, self.name)
        if found is None or not found.id:
            raise ConfigurationError(
                f"Study {self.name!r} was not made by this version of mnist-lab.",
                safe="Nothing was written.",
                next_step="To list those that were, type: mnist-lab studies",
            )
        return found

    @property
    def stopped(self) -> Stopped | None:
        """The reason why the last sweep ended before its total; None when it did not."""
        return read_stopped(self.study.user_attrs.get(_STOPPED))

    def write_stopped(self, stopped: Stopped | None) -> None:
        self.study.set_user_attr(_STOPPED, stopped.to_json() if stopped else "")

    @property
    def state(self) -> State:
        """The study's state, by the record of its last sweep."""
        stopped = self.stopped
        if stopped is None:
            return "complete"
        return "failed" if stopped.reason.is_failure else "interrupted"

    @property
    def names(self) -> dict[str, str]:
        """The name of each parameter in a study whose space asks."""
        return dict(self.study.user_attrs.get(_NAMES, {}))

    def write_names(self, names: Mapping[str, str]) -> None:
        self.study.set_user_attr(_NAMES, dict(names))

    @property
    def warm_points(self) -> tuple[WarmPoint, ...] | None:
        """The points that came from earlier studies; None before they were looked for."""
        stored = self.study.user_attrs.get(_WARM_START)
        return None if stored is None else tuple(WarmPoint(**each) for each in stored)

    def write_warm_points(self, points: Sequence[WarmPoint]) -> None:
        self.study.set_user_attr(_WARM_START, [asdict(each) for each in points])

    # Its trials

    def trials(self, states: Container[TrialState] | None = None) -> list[TrialFacts]:
        """Return the trials that mnist-lab trains, by number."""
        found = self.study.get_trials(deepcopy=False, states=states)
        return [self._read(trial) for trial in found if is_managed(trial)]

    def trial(self, number: int) -> TrialFacts:
        return self._read(self.storage.get_trial(self._trial_id(number)))

    def ranked(self) -> list[TrialFacts]:
        """Return complete trials with a possible accuracy, best first; of equals, the earlier."""
        done = self.trials((TrialState.COMPLETE,))
        return sorted((each for each in done if each.is_possible), key=_rank_key)

    def numbers(self, states: Container[TrialState]) -> list[int]:
        """Return the numbers of trials in ``states``, foreign ones included."""
        return [each.number for each in self.study.get_trials(deepcopy=False, states=states)]

    def count(self) -> int:
        """Count the trials of the study, foreign ones included: the number of the next."""
        return len(self.study.get_trials(deepcopy=False))

    def count_foreign(self) -> int:
        """Count the trials that other programs wrote; they are in no table and no ranking."""
        return sum(not is_managed(trial) for trial in self.study.get_trials(deepcopy=False))

    def find_trial(self, number: str) -> TrialFacts:
        """Find trial ``number``; the best when ``number`` is empty.

        Raises:
            UnknownNameError: there is none.
        """
        found = self.ranked() if not number else self.trials()
        for trial in found:
            if not number or str(trial.number) == number:
                return trial
        raise UnknownNameError(
            f"trial of study {self.name}", number or "best", [str(t.number) for t in found]
        )

    def queue_replica(
        self, params: Params, *, of: int, seed: int, left_out: int, round_: int
    ) -> None:
        """Queue a trial that trains trial ``of`` of another study again, without a part."""
        attributes = {
            "replica_of": of,
            "planned_seed": seed,
            "left_out": left_out,
            "round": round_,
        }
        self.study.enqueue_trial(dict(params), user_attrs=attributes)

    def queue_point(self, point: Params, *, baseline: bool, defaults: bool) -> None:
        """Queue a point; missing parameters are drawn, or take their defaults with ``defaults``."""
        attributes = {"baseline": baseline, "defaults": defaults}
        kept = {key: value for key, value in attributes.items() if value}
        self.study.enqueue_trial(dict(point), user_attrs=kept or None)

    def write(self, number: int) -> TrialWriter:
        """Return a writer for the facts of an unfinished trial."""
        return TrialWriter(self.storage, self._trial_id(number))

    def finish(self, number: int, state: TrialState, value: float | None = None) -> None:
        """Finish a trial. Optuna lets no fact of it be written afterwards."""
        self.study.tell(number, value, state=state)

    def should_prune(self, number: int) -> bool:
        """Ask the study's pruner about a trial, by the epochs that are written."""
        trial = self.storage.get_trial(self._trial_id(number))
        return self.study.pruner.prune(self.study, trial)

    def _trial_id(self, number: int) -> int:
        study_id = self.study._study_id
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def _read(self, trial: FrozenTrial) -> TrialFacts:
        if not trial.state.is_finished():
            return TrialFacts.read(trial)
        if trial.number not in self._finished:
            self._finished[trial.number] = TrialFacts.read(trial)
        return self._finished[trial.number]

    # What replicas predict of the sealed images. Kept here, so that they need be opened once only.

    def kept_classes(self, images: str) -> dict[str, str]:
        """Return the packed classes that trials gave ``images``.

        They are kept by the trial's number, and those of an ensemble by its members' (``12+15+18``).
        ``images`` is the digest of the sealed images, or names a public part.
        """
        prefix = f"{_KEPT}{images[:_DIGITS]}:"
        return {
            key.removeprefix(prefix): value
            for key, value in self.study.user_attrs.items()
            if key.startswith(prefix)
        }

    def keep_classes(self, images: str, trials: str, classes: str) -> None:
        self.study.set_user_attr(f"{_KEPT}{images[:_DIGITS]}:{trials}", classes)

    # What the tracker has. Kept with the study: a finished trial's attributes cannot be written.

    def tracked(self) -> dict[int, Tracked]:
        """Return the run of each trial by number, as far as the tracker has answered."""
        found = {}
        for key, value in self.study.user_attrs.items():
            if key.startswith(_TRIAL_RUN):
                number = int(key.removeprefix(_TRIAL_RUN))
                found[number] = Tracked(trial=number, **value)
        return found

    def write_tracked(self, tracked: Tracked) -> None:
        value = {"run": tracked.run, "closed": tracked.closed}
        self.study.set_user_attr(f"{_TRIAL_RUN}{tracked.trial}", value)

    def find_run(self, trial: int) -> str:
        """Find the trial's run.

        Raises:
            MnistLabError: the tracker has not taken the trial yet.
        """
        tracked = self.tracked().get(trial)
        if tracked is None:
            raise MnistLabError(
                f"Trial {trial} of {self.name} is not in MLflow yet.",
                safe="The study has it.",
                next_step=f"Type: mnist-lab sync {self.name}",
            )
        return tracked.run


def is_untracked(trial: TrialFacts, tracked: Mapping[int, Tracked]) -> bool:
    """Return whether the tracker lacks ``trial``, or its end."""
    return trial.is_begun and not (trial.number in tracked and tracked[trial.number].closed)


def _rank_key(trial: TrialFacts) -> tuple[float, int]:
    return trial.rank_key
