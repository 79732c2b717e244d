"""The README and the pages of ``docs/``, taken apart: their blocks, their commands, their prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
REFERENCE = DOCS / "commands.md"  # generated from --help
# Those with commands first, in the order in which a reader types them.
_FIRST = [
    README,
    *(DOCS / f"{name}.md" for name in ("guide", "data", "spaces", "your-models", "promotion")),
]
PAGES = [*_FIRST, *sorted(set(DOCS.glob("*.md")) - {*_FIRST, REFERENCE})]


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of ``page``: language and text."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.M | re.S)


def typed(page: Path) -> Iterator[str]:
    """The commands in its ``sh`` blocks, and behind the ``$`` of its ``console`` blocks."""
    for language, text in blocks(page):
        if language in ("sh", "console"):
            for line in text.splitlines():
                if language == "sh" or line.startswith("$ "):
                    yield line.removeprefix("$ ").split("#")[0].strip()


def named(page: Path) -> list[str]:
    """The commands of mnist-lab in its running text."""
    return re.findall(r"`(mnist-lab [a-z][^`\[]*)`", _without_blocks(page))


def prose(page: Path) -> str:
    """Its running text, without code."""
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "", _without_blocks(page))


def _without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
