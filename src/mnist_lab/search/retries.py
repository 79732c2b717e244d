"""The remedy for each reason of failure.

================= ============================================================================
reason            remedy
================= ============================================================================
``diverged``      fail: the same seed would diverge again
``invalid``       fail: no model can be made of its parameters, or it reports the impossible
``infeasible``    fail: its model is beyond a limit of the search, which expects some to be
``error``         fail: an exception in the trainer would be raised again
``timeout``       fail: it would take as long again
``crashed``       retry from its checkpoint in another worker, ``--retries`` times
``node_lost``     go on elsewhere, without using up a retry, until three attempts came no further
``out_of_memory`` retry once: the worker, which may have been full, is replaced
``disk_full``     stop the sweep; the trial stays to be resumed
``disk_error``    stop the sweep: a disk that is read-only or broken
================= ============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from mnist_lab.execution import FailureReason

# After so many attempts in a row without a new epoch, that nothing stopped on purpose, a trial fails:
# it takes its supervisor, or the machine, down with it.
MAX_ATTEMPTS_WITHOUT_PROGRESS = 3
START_SECONDS = 120.0  # a worker imports TensorFlow, 10 s on an idle machine


class Remedy(Enum):
    """The remedy for a failure."""

    FAIL = "fail"
    RETRY = "retry"
    RETRY_ONCE = "retry once"
    MOVE = "go on elsewhere"
    STOP = "stop the sweep"


REMEDIES: Mapping[FailureReason, Remedy] = {
    FailureReason.DIVERGED: Remedy.FAIL,
    FailureReason.INVALID: Remedy.FAIL,
    FailureReason.INFEASIBLE: Remedy.FAIL,
    FailureReason.ERROR: Remedy.FAIL,
    FailureReason.TIMEOUT: Remedy.FAIL,
    FailureReason.CRASHED: Remedy.RETRY,
    FailureReason.NODE_LOST: Remedy.MOVE,
    FailureReason.OUT_OF_MEMORY: Remedy.RETRY_ONCE,
    FailureReason.DISK_FULL: Remedy.STOP,
    FailureReason.DISK_ERROR: Remedy.STOP,
}
# Transient failures, not caused by the parameters: ``confirm`` retries a replica that failed so.
TRANSIENT = (
    FailureReason.CRASHED,
    FailureReason.NODE_LOST,
    FailureReason.OUT_OF_MEMORY,
    FailureReason.TIMEOUT,
)


def is_retryable(reason: FailureReason) -> bool:
    """Return whether another attempt may end otherwise."""
    return REMEDIES[reason] in (Remedy.RETRY, Remedy.RETRY_ONCE, Remedy.MOVE)


def may_retry(
    reason: FailureReason, retried: Sequence[str], *, retries: int, moved: int = 0
) -> bool:
    """Return whether a failed trial goes on.

    ``retried`` has the reasons of its retries; ``moved`` counts the nodes lost since its last epoch.
    """
    if REMEDIES[reason] is Remedy.MOVE:
        return moved < MAX_ATTEMPTS_WITHOUT_PROGRESS - 1
    if REMEDIES[reason] is Remedy.RETRY:
        return sum(each != FailureReason.NODE_LOST for each in retried) < retries
    return REMEDIES[reason] is Remedy.RETRY_ONCE and reason not in retried and retries > 0
