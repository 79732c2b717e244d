"""The end of a sweep before its total: a reason for decisions, and a sentence for people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class StopReason(StrEnum):
    """The reason why a sweep ended before its total.

    Exit codes and the study's state follow from it.
    """

    INTERRUPTED = "interrupted"  # by a signal, or its process died
    TIMEOUT = "timeout"  # --timeout has passed
    FAILURES = "failures"  # --max-failures trials in a row failed
    ALL_FAILED = "all_failed"  # the total was reached, and every trial failed
    DISK = "disk"  # it is full, read-only or broken

    @property
    def is_failure(self) -> bool:
        return self in (StopReason.FAILURES, StopReason.ALL_FAILED)


@dataclass(frozen=True)
class Stopped:
    """The early end of a sweep; ``text`` says its reason in words, with the numbers."""

    reason: StopReason
    text: str

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, str]:
        return {"reason": self.reason.value, "text": self.text}


INTERRUPTED = Stopped(StopReason.INTERRUPTED, "interrupted")
# How versions before 27 November 2026 wrote it: the sentence alone.
_EARLIER = {
    r"all \d+ trials failed": StopReason.ALL_FAILED,
    r"\d+ trials in a row failed": StopReason.FAILURES,
    r"the timeout of .*": StopReason.TIMEOUT,
    r"disk_.*": StopReason.DISK,
}


def read_stopped(stored: Any) -> Stopped | None:
    """Read the record of this or an earlier version; None if the sweep reached its total."""
    if not stored:
        return None
    if isinstance(stored, dict):
        return Stopped(StopReason(stored["reason"]), str(stored["text"]))
    for pattern, reason in _EARLIER.items():
        if re.fullmatch(pattern, stored, re.DOTALL):
            return Stopped(reason, stored)
    return Stopped(StopReason.INTERRUPTED, stored)
