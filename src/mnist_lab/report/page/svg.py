"""Inline SVG: a chart is a frame with two axes, and marks in it that say which trial they are of.

Colours are classes of ``page.css``, so that light and dark are the reader's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from mnist_lab.report.page.scale import Bands, Scale, pixel

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 40


@dataclass(kw_only=True)
class Chart:
    """A chart under construction; ``title`` is what a screen reader says of it."""

    title: str
    x_label: str
    y_label: str
    width: int = WIDTH
    height: int = HEIGHT
    kind: str = ""
    parts: list[str] = field(default_factory=list)

    @property
    def x_range(self) -> tuple[float, float]:
        return LEFT, self.width - RIGHT

    @property
    def y_range(self) -> tuple[float, float]:
        """Bottom first: more is higher."""
        return self.height - BOTTOM, TOP

    def rule(self, x: float, kind: str) -> None:
        """Draw a line from bottom to top at ``x``."""
        bottom, top = self.y_range
        self.parts.append(f'<path class="{kind}" d="M{pixel(x)} {top}V{pixel(bottom)}"/>')

    def axes(self, x: Scale | Bands, y: Scale | Bands) -> None:
        """Draw the grid, the ticks and the names of both axes."""
        bottom, top = self.y_range
        left, right = self.x_range
        for place, text in y.marks:
            at = pixel(place)
            self.parts.append(f'<path class="grid" d="M{left} {at}H{pixel(right)}"/>')
            self.parts.append(
                f'<text x="{left - 6}" y="{at}" dy=".35em" class="end">{escape(text)}</text>'
            )
        for place, text in x.marks:
            at = pixel(place)
            self.parts.append(f'<path class="grid" d="M{at} {top}V{pixel(bottom)}"/>')
            self.parts.append(
                f'<text x="{at}" y="{pixel(bottom + 15)}" class="middle">{escape(text)}</text>'
            )
        middle = pixel((left + right) / 2)
        self.parts.append(
            f'<text x="{middle}" y="{self.height - 6}" class="middle name">'
            f"{escape(self.x_label)}</text>"
        )
        self.parts.append(
            f'<text transform="translate(12 {pixel((top + bottom) / 2)})rotate(-90)" '
            f'class="middle name">{escape(self.y_label)}</text>'
        )

    def band(self, y: Scale, low: float, high: float) -> None:
        """Shade the values ``low`` to ``high`` of ``y``."""
        top, bottom = y(high), y(low)
        left, right = self.x_range
        self.parts.append(
            f'<rect class="band" x="{left}" y="{pixel(top)}" width="{pixel(right - left)}" '
            f'height="{pixel(max(1.0, bottom - top))}"/>'
        )

    def line(
        self, points: Iterable[tuple[float, float]], kind: str, trial: int | None = None
    ) -> None:
        """Draw a line through ``points`` (pixels)."""
        text = " ".join(f"{pixel(x)},{pixel(y)}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}"{_of(trial)} points="{text}"/>')

    def dot(self, x: float, y: float, kind: str, trial: int | None = None, radius: int = 4) -> None:
        self.parts.append(
            f'<circle class="{kind}"{_of(trial)} cx="{pixel(x)}" cy="{pixel(y)}" r="{radius}"/>'
        )

    def square(self, x: float, y: float, kind: str, trial: int | None = None) -> None:
        self.parts.append(
            f'<rect class="{kind}"{_of(trial)} x="{pixel(x - 4)}" y="{pixel(y - 4)}" '
            'width="8" height="8"/>'
        )

    def cross(self, x: float, y: float, kind: str, trial: int | None = None) -> None:
        self.parts.append(
            f'<path class="{kind}"{_of(trial)} d="M{pixel(x - 4)} {pixel(y - 4)}l8 8m0-8l-8 8"/>'
        )

    def tick(self, x: float, kind: str, trial: int | None = None) -> None:
        """Draw a short stroke at the bottom of the frame."""
        bottom = self.y_range[0]
        self.parts.append(f'<path class="{kind}"{_of(trial)} d="M{pixel(x)} {pixel(bottom)}v-8"/>')

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        self.parts.append(
            f'<text x="{pixel(x)}" y="{pixel(y)}" class="{kind}">{escape(words)}</text>'
        )

    def svg(self) -> str:
        """Return the chart as an element that a screen reader names by its title."""
        return (
            f'<svg role="img" class="{self.kind}" viewBox="0 0 {self.width} {self.height}" '
            f'aria-label="{escape(self.title)}"><title>{escape(self.title)}</title>'
            f"{''.join(self.parts)}</svg>"
        )


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """Draw a curve without axes, 60 by 16 pixels; hidden from screen readers, the table has its end."""
    span = high - low or 1.0
    step = 56 / max(1, len(values) - 1)
    points = " ".join(
        f"{pixel(2 + step * place)},{pixel(14 - 12 * max(0.0, (value - low) / span))}"
        for place, value in enumerate(values)
    )
    return (
        '<svg class="spark" viewBox="0 0 60 16" aria-hidden="true">'
        f'<polyline class="curve" points="{points}"/></svg>'
    )


def _of(trial: int | None) -> str:
    return "" if trial is None else f' data-trial="{trial}"'
