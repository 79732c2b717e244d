"""The start of processes beside the supervisor: forked from a template, or spawned.

Importing TensorFlow takes 2.5 s of one core; two workers that do it, beside a supervisor that imports
MLflow, take 6 s on two cores. So one process does it, from the first moment on, and is forked for
every worker: Python's ``forkserver``, never a fork of the supervisor itself, which has threads. What is
forked has none, and has used no device (``preload``).
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

import psutil

from mnist_lab.training import Runtime, environment

_warming = threading.Lock()
_log = logging.getLogger(__name__)

PRELOAD = ["mnist_lab.execution.preload"]
# JAX and PyTorch start threads when they are imported, which a fork would lose.
FORKED_BACKENDS = ("tensorflow", "none")
HELD = (signal.SIGINT, signal.SIGTERM)
TEMPLATE_DIED = (
    255  # the exit code of a child that lost it, by ``multiprocessing.popen_forkserver``
)


def warm_up() -> None:
    """Start the template's imports in the background; a second call does nothing."""
    if may_fork():
        # Where no socket can be made (a TMPDIR of 80 letters), processes are started from nothing.
        with suppress(OSError), _warming, _signals_held(), _environment_of_template():
            multiprocessing.set_forkserver_preload(PRELOAD)
            multiprocessing.forkserver.ensure_running()


def may_fork() -> bool:
    """Return whether this machine and Keras's backend allow forks after imports."""
    known = os.environ.get("KERAS_BACKEND", FORKED_BACKENDS[0]) in FORKED_BACKENDS
    return known and sys.platform == "linux"  # macOS's own libraries do not survive a fork


def start_process(
    target: Callable[..., None], *arguments: Any, name: str, fresh: bool = False
) -> BaseProcess:
    """Start ``target(*arguments)`` in a process that ends with this one, as its daemon.

    It waits until the template has imported everything; a second Ctrl-C interrupts it.

    Args:
        fresh: not from the template: for a GPU, whose libraries look for it when they are loaded.
    """
    if not fresh and may_fork():
        try:
            warm_up()
            return _start(multiprocessing.get_context("forkserver"), target, arguments, name)
        except (OSError, EOFError) as error:
            # The template may die at this moment; a spawned process does the same.
            _log.info("%s is started from nothing, not from the template: %r", name, error)
    with _signals_held():
        return _start(multiprocessing.get_context("spawn"), target, arguments, name)


def _start(
    context: ForkServerContext | SpawnContext,
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    name: str,
) -> BaseProcess:
    process = context.Process(
        target=_enter, args=(dict(os.environ), target, arguments), name=name, daemon=True
    )
    with _main_hidden():
        process.start()
    return process


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Hide the program's main module from the new process, which would run it again.

    A script of three lines that calls ``mnist_lab.sweep`` without ``if __name__ == "__main__"`` would
    sweep within its own workers. Nothing that is sent comes from there.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _enter(variables: dict[str, str], target: Callable[..., None], arguments: Any) -> None:
    """In the new process: a template has the environment of the moment at which it was started."""
    for each in HELD:  # what came meanwhile is dropped with it
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    os.environ.clear()
    os.environ.update(variables)
    target(*arguments)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM, which may go to the whole process group, in processes started here.

    The supervisor answers them afterwards. The template keeps this mask for its life, and its forks
    have it until they ignore both.
    """
    multiprocessing.resource_tracker.ensure_running()  # started later, it would undo the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment_of_template() -> Iterator[None]:
    """Set the variables that libraries read while they load; each worker sets its own later."""
    read = environment(Runtime(threads=1))
    read["OPENBLAS_NUM_THREADS"] = "1"  # its threads would start with NumPy
    read["PYTHONSAFEPATH"] = "1"  # or files of the current folder could pass for libraries
    before = {name: os.environ.get(name) for name in read}
    os.environ.update(read)
    try:
        yield
    finally:  # another thread may be reading the others
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def end_process(process: BaseProcess, *, grace: float) -> None:
    """Wait ``grace`` seconds for a process that ought to end, and end it if it does not."""
    process.join(grace)
    if process.is_alive():
        process.kill()
        process.join()
    elif process.exitcode == TEMPLATE_DIED:
        _kill_orphan(process.pid)


def _kill_orphan(pid: int | None) -> None:
    """Kill a process whose end the template would have reported, unless it has ended itself."""
    with suppress(psutil.Error):
        found = psutil.Process(pid)
        if "multiprocessing.forkserver" in " ".join(found.cmdline()):  # no other has its number now
            found.kill()
