"""A contender: a trial of a study, and its replicas as evidence of how good its configuration is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState

from mnist_lab.errors import MnistLabError
from mnist_lab.evaluation import unpack_classes
from mnist_lab.promotion.evidence import Arm
from mnist_lab.promotion.gate import Costs
from mnist_lab.search import TRANSIENT
from mnist_lab.study import (
    PROMOTE_PARTS,
    Ledger,
    Replica,
    TrialFacts,
    find_replicas,
    read_replicas,
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Replicas that left the same part out and predict together: one alone, or an ensemble's."""

    left_out: int
    trials: tuple[TrialFacts, ...]

    @property
    def is_ensemble(self) -> bool:
        return len(self.trials) > 1

    @property
    def name(self) -> str:
        """The name by which its predicted classes are kept."""
        return "+".join(str(trial.number) for trial in self.trials)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Trial ``trial`` of the study ``search``; what is known of its replicas is read anew each time.

    With ``members`` it is an ensemble: so many replicas that left the same part out predict together.
    """

    search: Ledger
    trial: int
    members: int = 1

    @property
    def study(self) -> str:
        return self.search.name

    def rounds(self, look: int) -> int:
        """Return how many rounds are compared at a ``look``, from 1; an ensemble needs all at each."""
        return look if self.members == 1 else self.members

    def missing(self, rounds: int) -> list[Replica]:
        """List the replicas of ``rounds`` rounds to train; transient failures are trained again."""
        found = read_replicas(self.search)
        return [
            each
            for each in self._replicas(rounds)
            if each not in found
            or (found[each].state == TrialState.FAIL and found[each].reason in TRANSIENT)
        ]

    def ledger(self) -> Ledger:
        """Open the study of its replicas.

        Raises:
            MnistLabError: it has none.
        """
        found = find_replicas(self.search)
        if found is None:
            raise MnistLabError(f"Study {self.study!r} has no replicas.")
        return found

    def groups(self, rounds: int) -> list[Group]:
        """List what predicts: the complete replicas of ``rounds`` rounds, then those of ``confirm``.

        Of an ensemble the replicas of ``rounds`` rounds by the part that they left out, if all are
        complete: three ensembles.
        """
        found = {
            each: trial
            for each, trial in read_replicas(self.search).items()
            if trial.state == TrialState.COMPLETE
        }
        if self.members > 1:
            by_part = [
                [found.get(each) for each in self._replicas(rounds) if each.left_out == part]
                for part in PROMOTE_PARTS
            ]
            return [
                Group(left_out=part, trials=tuple(filter(None, trials)))
                for part, trials in zip(PROMOTE_PARTS, by_part, strict=True)
                if all(trials)
            ]
        wanted = [each for each in self._replicas(rounds) if each in found]
        others = [
            each for each in found if each.of == self.trial and each.left_out not in PROMOTE_PARTS
        ]
        return [Group(left_out=each.left_out, trials=(found[each],)) for each in (*wanted, *others)]

    def costs(self) -> Costs:
        """Return what the search measured of its model; a latency that is not known is infinite.

        So is that of an ensemble, whose members are computed at once.
        """
        scalars = self.search.trial(self.trial).scalars
        latency = math.inf if self.members > 1 else float(scalars.get("latency_ms", math.inf))
        return Costs(
            parameters=self.members * int(scalars["parameters"]),
            file_size=0,
            latency=latency,
        )

    def arm(
        self,
        rounds: int,
        labels: Mapping[int, NDArray[np.uint8]],
        sealed: NDArray[np.bool_] | None = None,
    ) -> Arm:
        """Return the mistakes on the parts of ``labels``; ``sealed (n, N_S)`` are those on the others.

        A replica whose predictions are not of as many images as its part has is left out.
        """
        rows: dict[int, list[NDArray[np.bool_]]] = {}
        for group in self.groups(rounds):
            predicted = self.predicted(group)
            if group.left_out not in labels or not predicted:
                continue
            classes, truth = unpack_classes(predicted), labels[group.left_out]
            if len(classes) == len(truth):
                rows.setdefault(group.left_out, []).append(classes != truth)
        parts = {part: np.stack(each) for part, each in rows.items()}
        return Arm(parts=parts, sealed=sealed, members=self.members)

    def predicted(self, group: Group) -> str:
        """Return the packed classes that a group gave the part that it left out; empty if none yet."""
        if self.members == 1:
            return group.trials[0].predicted
        return self.ledger().kept_classes(part_name(group.left_out)).get(group.name, "")

    def _replicas(self, rounds: int) -> list[Replica]:
        return [
            Replica(of=self.trial, left_out=part, round=round_)
            for round_ in range(1, rounds + 1)
            for part in PROMOTE_PARTS
        ]


def part_name(part: int) -> str:
    """Return the name by which classes of the images of a public part are kept."""
    return f"part-{part}"
