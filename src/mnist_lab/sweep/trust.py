"""Which space files are trusted: those that were swept from this home, by their digest.

A registered model says which file built it. Whoever may write to the registry could name any file of
this machine; so a file is run only if its user once typed its name here.
"""

from __future__ import annotations

from mnist_lab.settings import Settings

_FILE = "trusted-spaces"


def trust(settings: Settings, sources: str) -> None:
    """Remember that the space file of this digest is the user's own."""
    if sources and not is_trusted(settings, sources):
        settings.work.mkdir(parents=True, exist_ok=True)
        with (settings.work / _FILE).open("a", encoding="utf-8") as file:
            file.write(f"{sources}\n")


def is_trusted(settings: Settings, sources: str) -> bool:
    """Whether the space file of this digest was swept from this home."""
    file = settings.work / _FILE
    return file.is_file() and sources in file.read_text(encoding="utf-8").split()
