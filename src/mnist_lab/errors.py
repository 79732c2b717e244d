"""The exceptions that mnist-lab raises on purpose, and their exit codes.

An error is one line in three parts: what is wrong, what is safe, and what to type next. The exit
codes are those of BSD's ``sysexits.h``::

    MnistLabError                 1   something that was asked for could not be done
    ├── UsageError               64   the command line is wrong
    │   ├── UnknownNameError     64   a name that does not exist; carries the nearest ones
    │   └── InvalidParamsError   64   parameters outside their search space
    ├── DataError                66   a data set or model file is missing or damaged
    ├── ServiceError             69   a tracking server or a database does not answer
    ├── BusyError                75   another process holds it now; try again later
    ├── DiskFullError            75   no space is left where something must be written
    ├── ConfigurationError       78   a file, a study or an installation does not fit this command
    │   └── MissingExtraError    78   an optional package is not installed
    └── InterruptedSweep        130   the user stopped a sweep (143 on SIGTERM)
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class MnistLabError(Exception):
    """Base class of every expected failure.

    ``safe`` says what was not harmed, ``next_step`` what to type; both may be empty.
    """

    exit_code = 1

    def __init__(self, problem: str, *, safe: str = "", next_step: str = "") -> None:
        self.problem = problem
        self.safe = safe
        self.next_step = next_step
        super().__init__(problem, safe, next_step)

    def __str__(self) -> str:
        return " ".join(part for part in (self.problem, self.safe, self.next_step) if part)


class UsageError(MnistLabError):
    exit_code = 64


class UnknownNameError(UsageError):
    """A name that is not among ``choices``; the message offers the nearest one first."""

    def __init__(
        self, kind: str, name: str, choices: Iterable[str], *, next_step: str = ""
    ) -> None:
        self.choices = tuple(choices)
        near = difflib.get_close_matches(name, self.choices, n=1, cutoff=0.3)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(self.choices) or "none"
        super().__init__(f"There is no {kind} {name!r}.{hint} Known: {known}.", next_step=next_step)


class InvalidParamsError(UsageError):
    pass


class DataError(MnistLabError):
    exit_code = 66


class ServiceError(MnistLabError):
    exit_code = 69


class BusyError(MnistLabError):
    exit_code = 75


class DiskFullError(MnistLabError):
    exit_code = 75


class ConfigurationError(MnistLabError):
    exit_code = 78


class MissingExtraError(ConfigurationError):
    """An optional package is needed; ``extra`` is the name to install it by."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed.",
            next_step=f"Type: pip install 'mnist-lab[{extra}]'",
        )


class InterruptedSweep(MnistLabError):
    exit_code = 130

    def __init__(
        self, problem: str, *, safe: str = "", next_step: str = "", exit_code: int = 130
    ) -> None:
        super().__init__(problem, safe=safe, next_step=next_step)
        self.exit_code = exit_code


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Messages of libraries that drop the number: SQLite, HDF5, the C library.
_FULL_WORDS = ("database or disk is full", "errno = 28", "No space left on device")


def is_disk_full(error: BaseException) -> bool:
    """Return whether ``error``, or an exception behind it, reports a full disk or quota."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if any(words in str(cause) for words in _FULL_WORDS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def first_line(error: BaseException) -> str:
    """Return ``TypeName: first line of the message``, at most 200 characters of it, without secrets."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return masked(f"{name}: {lines[0][:200]}") if lines else name


def masked(text: str) -> str:
    """Return ``text`` without the user names, passwords and tokens of the addresses in it."""
    text = re.sub(r"(\w://)[^/\s]+@", r"\1***@", text)
    return re.sub(r"(?i)([?&](?:user|password|token|secret)\w*=)[^&\s]+", r"\1***", text)
