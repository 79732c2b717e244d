"""Ctrl-C and SIGTERM: the first asks, the second insists."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Set by a signal. ``exit_code`` is 130 for Ctrl-C and 143 for SIGTERM."""

    def __init__(self) -> None:
        self.requested = False
        self.exit_code = 0

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.exit_code = 128 + number


@contextmanager
def answer_signals() -> Iterator[StopRequest]:
    """Within the context, a first signal sets the flag and a second raises ``KeyboardInterrupt``."""
    request = StopRequest()
    before = {each: signal.signal(each, request) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
