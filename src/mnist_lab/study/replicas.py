"""Replicas: a study's best trials trained again with fresh seeds, and what that says about them.

The best of many single runs is partly luck. Its configuration, trained again from other seeds, shows
how much: so configurations are ranked by the mean of their replicas, the first, lucky run left out.
The replicas of a study are trials of a second Optuna study beside it, with the same ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from mnist_lab.errors import UsageError
from mnist_lab.study import ledger
from mnist_lab.study.seeds import replica_seed

SUFFIX = "+confirm"


Pair = tuple[int, int]  # a trial of the search, and a seed


@dataclass(frozen=True, kw_only=True)
class Design:
    """Which replicas are wanted: the ``top`` best trials of a search, each with the same ``seeds``."""

    top: int = 5
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.top < 1 or self.seeds < 2:  # one seed says nothing about noise
            raise UsageError("At least 1 trial and 2 seeds are needed.")

    def replicas(self, study: optuna.Study) -> list[Pair]:
        """All of one seed, then all of the next, so that what is cut off compares like with like."""
        record = ledger.read_study(study)
        base = int(record.settings["seed"]) if record is not None else 0
        best = [trial.number for trial in best_configurations(study, self.top)]
        return [(of, replica_seed(base, each)) for each in range(self.seeds) for of in best]


def best_configurations(study: optuna.Study, top: int) -> list[FrozenTrial]:
    """The best trial of each of the ``top`` best points; a point may have several trials."""
    found: list[FrozenTrial] = []
    for trial in ledger.rank(study):
        if len(found) == top:
            break
        if all(trial.params != other.params for other in found):
            found.append(trial)
    return found


def confirm_name(study: str) -> str:
    """The name of the Optuna study that has the replicas of ``study``."""
    return study + SUFFIX


def searched_study(study: optuna.Study) -> optuna.Study:
    """The study that ``study`` confirms; ``study`` itself if it is a search."""
    if not study.study_name.endswith(SUFFIX):
        return study
    name = study.study_name.removesuffix(SUFFIX)
    return optuna.load_study(study_name=name, storage=study._storage)


def is_orphan(study: optuna.Study) -> bool:
    """Whether ``study`` has the replicas of one that somebody has deleted."""
    name = study.study_name
    there = optuna.get_all_study_names(study._storage)
    return name.endswith(SUFFIX) and name.removesuffix(SUFFIX) not in there


def find_replicas(study: optuna.Study) -> optuna.Study | None:
    """The study with the replicas of ``study``, if it was ever confirmed."""
    name = confirm_name(study.study_name)
    if name not in optuna.get_all_study_names(study._storage):
        return None
    return optuna.load_study(study_name=name, storage=study._storage)


def is_confirmed(study: optuna.Study, design: Design) -> bool:
    """Whether every replica of ``design`` has finished."""
    replicas = find_replicas(study)
    if replicas is None:
        return False
    done = replicas.get_trials(deepcopy=False, states=ledger.FINISHED)
    return set(design.replicas(study)) <= {pair_of(trial) for trial in done}


def pair_of(trial: FrozenTrial) -> Pair:
    """Which replica a trial of a confirmation is."""
    of, seed = ledger.read_replica_of(trial), ledger.read_planned_seed(trial)
    assert of is not None, "only replicas are in such a study"
    assert seed is not None, "replicas are queued with their seeds"
    return of, seed
