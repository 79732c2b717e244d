"""One problem that ``doctor`` has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem; ``advice`` says the effect of ``repair``, or a person's next step if that is None."""

    subject: str
    problem: str
    advice: str
    repair: Callable[[], object] | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the finding as JSON-able data; ``repairable`` says whether ``--repair`` repairs it."""
        return {
            "subject": self.subject,
            "problem": self.problem,
            "advice": self.advice,
            "repairable": self.repair is not None,
        }
