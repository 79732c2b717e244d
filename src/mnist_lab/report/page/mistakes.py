"""What good models miss, as a page."""

from __future__ import annotations

from mnist_lab.data import Split
from mnist_lab.report.images import Mistakes
from mnist_lab.report.page.environment import render
from mnist_lab.report.page.pictures import make_sprite

MOST_PICTURES = 96


def render_mistakes(mistakes: Mistakes, validation: Split) -> str:
    """Return the page of ``mistakes``, with pictures of the ``validation`` images."""
    suspects = {row.index for row in mistakes.suspects}
    groups = (
        (
            "Suspected labels",
            "All models agree on another class, and are sure of it.",
            mistakes.suspects,
        ),
        (
            "Missed by all",
            "Without agreement on one other class, or without being sure.",
            tuple(row for row in mistakes.missed_by_all if row.index not in suspects),
        ),
        ("Disagreement", "Some models are right; the most evenly divided first.", mistakes.split),
    )
    shown = [row.index for _, _, rows in groups for row in rows[:MOST_PICTURES]]
    sprite = make_sprite(validation, shown)
    return render(
        "mistakes.html.j2",
        title=f"{mistakes.study}: mistakes",
        mistakes=mistakes,
        groups=groups,
        sprite=sprite,
        sprite_css=sprite.css,
        most=MOST_PICTURES,
    )
