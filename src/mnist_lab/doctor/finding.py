"""One thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``advice`` says what ``repair`` does, or, where that is None, what only a person can do."""

    subject: str
    problem: str
    advice: str
    repair: Callable[[], object] | None = None

    def to_dict(self) -> dict[str, object]:
        """The finding as JSON holds it; ``repairable`` says whether ``--repair`` mends it."""
        return {
            "subject": self.subject,
            "problem": self.problem,
            "advice": self.advice,
            "repairable": self.repair is not None,
        }
