"""The git commit of the folder that a command was typed in."""

from __future__ import annotations

import subprocess
from functools import cache


@cache
def git_commit() -> str:
    """Return the commit's full hash, with ``+dirty`` for changed files; empty without a repository."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head}+dirty" if changed else head


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
