"""File locks: one supervisor a study on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mnist_lab.errors import BusyError
from mnist_lab.study.names import is_safe_name


def is_locked(folder: Path, name: str) -> bool:
    """Return whether a process on this machine has locked the study."""
    if not (is_safe_name(name) and (folder / f"{name}.lock").exists()):
        return False
    try:
        with lock_study(folder, name):
            return False
    except BusyError:
        return True


@contextmanager
def lock_study(folder: Path, name: str) -> Iterator[None]:
    """Lock a study for the only supervisor on this machine; the lock ends with its process.

    Raises:
        BusyError: another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / f"{name}.pid"
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text() if holder.exists() else "unknown"
        raise BusyError(
            f"Study {name!r} is being swept by process {who}.",
            safe="It goes on.",
            next_step="Wait for it, or stop it with Ctrl-C in its terminal.",
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
