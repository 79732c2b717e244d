"""File locks: one supervisor a study on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mnist_lab.errors import (
    BusyError,
)

_NAME = re.compile(r"[A-Za-z0-9][\w.+@-]{0,119}")


def is_locked(folder: Path, name: str) -> bool:
    """Whether a process on this machine holds the study."""
    if not (_NAME.fullmatch(name) and (folder / f"{name}.lock").exists()):
        return False
    try:
        with lock_study(folder, name):
            return False
    except BusyError:
        return True


@contextmanager
def lock_study(folder: Path, name: str) -> Iterator[None]:
    """Be the only supervisor of a study on this machine; the lock dies with its process.

    Raises:
        BusyError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / f"{name}.pid"
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text() if holder.exists() else "unknown"
        raise BusyError(
            f"Study {name!r} is held by process {who}.",
            safe="It goes on.",
            next_step="Wait for it, or stop it with Ctrl-C in its terminal.",
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
