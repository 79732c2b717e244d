"""The list of trusted space files: those swept from this home, by path and digest.

A registered model says which file built it. Whoever may write to the registry could name any file of
this machine; so a file is run only if its user once typed its name here, and it has not changed.
"""

from __future__ import annotations

import json

from mnist_lab.settings import Settings
from mnist_lab.spaces.space import SearchSpace

_FILE = ".trusted-spaces"  # no study has a name that begins with a dot


def trust(settings: Settings, space: SearchSpace) -> None:
    """Record that the user has swept the file of ``space`` in its present content."""
    if space.sources and not is_trusted(settings, space.source, space.sources):
        settings.work.mkdir(parents=True, exist_ok=True)
        with (settings.work / _FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps([space.source, space.sources]) + "\n")


def is_trusted(settings: Settings, source: str, sources: str) -> bool:
    """Return whether the space ``source`` (a path and a name), of this digest, was swept from here."""
    return (source, sources) in _read(settings)


def find_trusted(settings: Settings, source: str, sources: str) -> list[str]:
    """List the sources of swept spaces of this name and digest; ``source`` itself first."""
    name = source.rpartition(":")[2]
    known = [each for each, digest in _read(settings) if digest == sources]
    return [source, *(each for each in known if each.rpartition(":")[2] == name)]


def _read(settings: Settings) -> list[tuple[str, str]]:
    file = settings.work / _FILE
    if not file.is_file():
        return []
    return [(source, digest) for source, digest in map(json.loads, file.read_text().splitlines())]
