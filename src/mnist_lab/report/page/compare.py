"""Trials side by side, image by image, as a page."""

from __future__ import annotations

from mnist_lab.data import Split
from mnist_lab.report.compare import TrialComparison
from mnist_lab.report.page.environment import render
from mnist_lab.report.page.pictures import Sprite, make_sprite

MOST_PICTURES = 48


def render_comparison(found: TrialComparison, validation: Split | None) -> str:
    """Return the page of ``found``; without the images there are no pictures."""
    sprite = Sprite()
    if validation is not None:
        shown = [
            row.index
            for pair in found.pairs
            for rows in (pair.only_first_images, pair.only_second_images)
            for row in rows[:MOST_PICTURES]
        ]
        sprite = make_sprite(validation, shown)
    return render(
        "compare.html.j2",
        title=f"{found.study}: {' and '.join(map(str, found.trials))}",
        found=found,
        facts=found.cells(),
        sprite=sprite,
        sprite_css=sprite.css,
        most=MOST_PICTURES,
    )
