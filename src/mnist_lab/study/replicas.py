"""Replicas: a search's trials trained again, each with a fresh seed and without a part of the images.

The best of many single runs is partly luck. Its configuration, trained again from another seed and
measured on images that no training of it has seen, shows how much. The replicas of a study are trials
of a second Optuna study beside it, with the same ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from optuna.trial import TrialState

from mnist_lab.errors import UsageError
from mnist_lab.study.ledger import Ledger
from mnist_lab.study.open import find_replicas
from mnist_lab.study.seeds import part_seed
from mnist_lab.study.trials import FINISHED, TrialFacts

CONFIRM_PARTS = (0, 1)  # left out by ``confirm``, a round each
PROMOTE_PARTS = (2, 3, 4)  # left out by ``promote``, in each of its rounds


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A training of trial ``of`` without the images of part ``left_out``, in ``round`` (from 1)."""

    of: int
    left_out: int
    round: int = 1

    def seed(self, base: int) -> int:
        return part_seed(base, self.left_out, self.round)


@dataclass(frozen=True, kw_only=True)
class Design:
    """How many of a search's best trials ``confirm`` trains again, one replica each.

    The better half of them gets a second replica without another part: successive halving (Karnin,
    Koren and Somekh 2013).
    """

    top: int = 5

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError("At least 1 trial is needed.")

    def first(self, study: Ledger) -> list[Replica]:
        best = best_configurations(study, self.top)
        return [Replica(of=trial.number, left_out=CONFIRM_PARTS[0]) for trial in best]

    def missing(self, study: Ledger) -> list[Replica]:
        """List the replicas to train now; none when the choice can be made."""
        found, first = read_replicas(study), self.first(study)
        missing = [each for each in first if each not in found]
        return missing or [
            each for each in second_replicas(study, first, found) if each not in found
        ]


def first_replicas(found: Iterable[Replica]) -> list[Replica]:
    """Return those of ``found`` that are of the first round of ``confirm``."""
    return [each for each in found if each.left_out == CONFIRM_PARTS[0]]


def second_replicas(
    study: Ledger, first: Iterable[Replica], found: Mapping[Replica, TrialFacts]
) -> list[Replica]:
    """Return the replicas of the second round: of the better half of the trials, best first.

    Better by the sum of the search's score and the first replica's: two parts of the images.
    """
    scores = {
        each.of: study.trial(each.of).score + found[each].score
        for each in first
        if each in found and found[each].state == TrialState.COMPLETE
    }
    kept = sorted(scores, key=lambda of: -scores[of])[: (len(scores) + 1) // 2]
    return [Replica(of=of, left_out=CONFIRM_PARTS[1]) for of in kept]


def read_replicas(study: Ledger) -> dict[Replica, TrialFacts]:
    """Return the finished replicas of ``study`` that left a part out; of several, the complete one."""
    ledger = find_replicas(study)
    if ledger is None:
        return {}
    found: dict[Replica, TrialFacts] = {}
    for trial in ledger.trials(FINISHED):
        replica = replica_of(trial)
        if replica is not None and (
            replica not in found or found[replica].state != TrialState.COMPLETE
        ):
            found[replica] = trial
    return found


def replica_of(trial: TrialFacts) -> Replica | None:
    """Return which replica a trial is; None for one of an earlier version, which left no part out."""
    if trial.replica_of is None or trial.left_out is None:
        return None
    return Replica(of=trial.replica_of, left_out=trial.left_out, round=trial.round)


def best_configurations(study: Ledger, top: int) -> list[TrialFacts]:
    """Return the best trial of each of the ``top`` best points; a point may have several trials."""
    found: list[TrialFacts] = []
    for trial in study.ranked():
        if len(found) == top:
            break
        if all(trial.params != other.params for other in found):
            found.append(trial)
    return found
