"""What is done about each reason of failure.

=============== ==================================================================================
reason          what is done
=============== ==================================================================================
diverged        the trial fails: the same seed would diverge again
invalid         the trial fails: no model can be made of its parameters, or it reports the impossible
error           the trial fails: an exception in the trainer would be raised again
timeout         the trial fails: it would take as long again
crashed         goes on from its checkpoint in another worker, ``--retries`` times
out_of_memory   goes on from its checkpoint, once: the worker, which may have been full, is replaced
disk_full       the sweep stops; the trial stays to be resumed
disk_error      likewise: a disk that is read-only or broken
interrupted     not a failure: the trial stays to be resumed
=============== ==================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

from mnist_lab.execution import CRASHED, DISK_ERROR, DISK_FULL, OUT_OF_MEMORY, TIMEOUT, TrialFailed

RETRIED = (CRASHED, OUT_OF_MEMORY)
# Of the moment, not of the point: a replica that failed so is trained again by the next confirm.
TRANSIENT = (CRASHED, OUT_OF_MEMORY, TIMEOUT)
STOPS_THE_SWEEP = (DISK_FULL, DISK_ERROR)
# So often may a trial be begun without coming a single epoch further, when nobody asked it to stop:
# it takes its supervisor, or the machine, down with it.
MAX_ATTEMPTS_WITHOUT_PROGRESS = 3
START_SECONDS = 120.0  # a worker imports TensorFlow, 10 s on an idle machine


def may_retry(failure: TrialFailed, retried: Sequence[str], *, retries: int) -> bool:
    """Whether the trial goes on after ``failure``; ``retried`` has the reasons of its retries."""
    if failure.reason == CRASHED:
        return len(retried) < retries
    return failure.reason == OUT_OF_MEMORY and OUT_OF_MEMORY not in retried and retries > 0
