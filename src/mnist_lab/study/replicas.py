"""Replicas: a study's best trials, trained again with fresh seeds.

The best of many single runs is partly luck. Its configuration, trained again from other seeds, shows
how much: so configurations are ranked by the mean of their replicas, the first, lucky run left out.
The replicas of a study are trials of a second Optuna study beside it, with the same ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnist_lab.errors import UsageError
from mnist_lab.study.ledger import Ledger
from mnist_lab.study.open import find_replicas
from mnist_lab.study.seeds import replica_seed
from mnist_lab.study.trials import FINISHED, TrialFacts

Pair = tuple[int, int]  # a trial of the search, and a seed


@dataclass(frozen=True, kw_only=True)
class Design:
    """The wanted replicas: the ``top`` best trials of a search, each with the same ``seeds``."""

    top: int = 5
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.top < 1 or self.seeds < 2:  # one seed says nothing about noise
            raise UsageError("At least 1 trial and 2 seeds are needed.")

    def replicas(self, study: Ledger) -> list[Pair]:
        """List the replicas seed by seed, so that an interruption leaves comparable ones."""
        base = int(study.record.settings["seed"])
        best = [trial.number for trial in best_configurations(study, self.top)]
        return [(of, replica_seed(base, each)) for each in range(self.seeds) for of in best]


def best_configurations(study: Ledger, top: int) -> list[TrialFacts]:
    """Return the best trial of each of the ``top`` best points; a point may have several trials."""
    found: list[TrialFacts] = []
    for trial in study.ranked():
        if len(found) == top:
            break
        if all(trial.params != other.params for other in found):
            found.append(trial)
    return found


def is_confirmed(study: Ledger, design: Design) -> bool:
    """Return whether every replica of ``design`` has finished."""
    replicas = find_replicas(study)
    if replicas is None:
        return False
    done = replicas.trials(FINISHED)
    return set(design.replicas(study)) <= {pair_of(trial) for trial in done}


def pair_of(trial: TrialFacts) -> Pair:
    """Return the searched trial and the seed of a trial of a confirmation."""
    of, seed = trial.replica_of, trial.planned_seed
    assert of is not None, "only replicas are in such a study"
    assert seed is not None, "replicas are queued with their seeds"
    return of, seed
