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
class Contender:
    """Trial ``trial`` of the study ``search``; what is known of its replicas is read anew each time."""

    search: Ledger
    trial: int

    @property
    def study(self) -> str:
        return self.search.name

    def missing(self, round_: int) -> list[Replica]:
        """List the replicas of a round, from 1, to train; transient failures are trained again."""
        found = read_replicas(self.search)
        return [
            each
            for each in self._round(round_)
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

    def replicas(self, rounds: int) -> dict[Replica, TrialFacts]:
        """Return its complete replicas: of ``rounds`` rounds, in their order, then of ``confirm``."""
        found = read_replicas(self.search)
        wanted = [each for round_ in range(1, rounds + 1) for each in self._round(round_)]
        others = [
            each for each in found if each.of == self.trial and each.left_out not in PROMOTE_PARTS
        ]
        return {
            each: found[each]
            for each in (*wanted, *others)
            if each in found and found[each].state == TrialState.COMPLETE
        }

    def costs(self) -> Costs:
        """Return what the search measured of its model; a latency that is not known is infinite."""
        scalars = self.search.trial(self.trial).scalars
        return Costs(
            parameters=int(scalars["parameters"]),
            file_size=0,
            latency=float(scalars.get("latency_ms", math.inf)),
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
        for replica, trial in self.replicas(rounds).items():
            if replica.left_out not in labels or not trial.predicted:
                continue
            classes, truth = unpack_classes(trial.predicted), labels[replica.left_out]
            if len(classes) == len(truth):
                rows.setdefault(replica.left_out, []).append(classes != truth)
        return Arm(parts={part: np.stack(each) for part, each in rows.items()}, sealed=sealed)

    def _round(self, round_: int) -> list[Replica]:
        return [Replica(of=self.trial, left_out=part, round=round_) for part in PROMOTE_PARTS]
