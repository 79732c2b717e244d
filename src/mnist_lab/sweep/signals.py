"""Ctrl-C, SIGTERM and a closed terminal: the first signal asks, the second insists."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Whoever sends SIGTERM (Docker, systemd, a cluster) sends SIGKILL ten seconds later or more. After this
# grace come at most 3 s for the tracker and 2 s for workers that do not leave.
SIGTERM_GRACE_SECONDS = 5.0


class StopRequest:
    """A flag that a signal sets.

    ``exit_code`` is 130 for Ctrl-C, 143 for SIGTERM, 129 for a closed terminal.
    """

    def __init__(self) -> None:
        self.requested = False
        self.exit_code = 0
        self._asked_at = 0.0

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.exit_code = 128 + number
        self._asked_at = time.monotonic()

    @property
    def overdue(self) -> bool:
        """Whether SIGTERM's grace is over, and running trials must be left where they are."""
        waited = time.monotonic() - self._asked_at
        return self.exit_code == 128 + signal.SIGTERM and waited > SIGTERM_GRACE_SECONDS


@contextmanager
def answer_signals() -> Iterator[StopRequest]:
    """Set a flag at the first signal, and raise ``KeyboardInterrupt`` at a second, in the context."""
    request = StopRequest()
    answered = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else by nohup, and it shall go on
        answered.append(signal.SIGHUP)
    before = {each: signal.signal(each, request) for each in answered}
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
