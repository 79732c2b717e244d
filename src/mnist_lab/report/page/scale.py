"""Scales of charts: from values to pixels, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_TICKS = 6


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A linear or logarithmic scale of values ``low`` to ``high`` onto pixels ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(max(value, self.low))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    @property
    def marks(self) -> tuple[tuple[float, str], ...]:
        """The place of each tick, in pixels, and its text."""
        return tuple((self(value), text) for value, text in self.ticks)


@dataclass(frozen=True, kw_only=True)
class Bands:
    """A scale of categories: each gets the middle of an equal part of ``start`` to ``end``."""

    names: tuple[str, ...]
    start: float
    end: float

    def __call__(self, name: object) -> float:
        part = (self.end - self.start) / max(1, len(self.names))
        place = self.names.index(str(name)) if str(name) in self.names else 0
        return self.start + (place + 0.5) * part

    @property
    def marks(self) -> tuple[tuple[float, str], ...]:
        """The middle of each part, in pixels, and its name, cut where it is long."""
        return tuple(
            (self(name), name if len(name) < 12 else f"{name[:10]}…") for name in self.names
        )


def make_scale(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    log: bool = False,
    percent: bool = False,
    whole: bool = False,
) -> Scale:
    """Make a scale that holds ``values``, with a margin and ticks at round, or ``whole``, numbers."""
    found = [value for value in values if math.isfinite(value)]
    if log:
        found = [value for value in found if value > 0]
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if log:
        factor = (high / low) ** 0.04 if high > low else 1.5
        low, high = low / factor, high * factor
        return Scale(
            low=low, high=high, start=start, end=end, log=True, ticks=_log_ticks(low, high)
        )
    margin = 0.04 * (high - low) if high > low else abs(high) * 0.01 or 0.5
    low, high = low - margin, high + margin
    if percent:
        high = min(high, 1.0) if max(found, default=0.0) <= 1.0 else high
    ticks = _ticks(low, high, percent=percent)
    if whole:
        ticks = tuple((value, short(value)) for value, _ in ticks if _is_whole(value))
    return Scale(low=low, high=high, start=start, end=end, ticks=ticks)


def _ticks(low: float, high: float, *, percent: bool) -> tuple[tuple[float, str], ...]:
    raw = (high - low) / MOST_TICKS
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * each for each in (1, 2, 2.5, 5, 10) if power * each >= raw)
    first = math.ceil(low / step - 1e-9)
    values = [round(each * step, 12) for each in range(first, math.floor(high / step + 1e-9) + 1)]
    return tuple((value, _write(value, step, percent=percent)) for value in values)


def _write(value: float, step: float, *, percent: bool) -> str:
    if percent:
        digits = max(0, -math.floor(math.log10(100 * step) + 1e-9))
        if not _is_whole(100 * step * 10**digits):
            digits += 1
        return f"{100 * value:.{digits}f}%"
    if step >= 1:
        return short(value)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits + (not _is_whole(step * 10**digits))}f}"


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        values = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(values) >= 3:
            return tuple((value, short(value)) for value in values)
    return _ticks(low, high, percent=False)  # within a decade both scales are much alike


def short(value: float) -> str:
    """Write a number for an axis: ``1.2M``, ``30k``, ``0.003``, ``1e-5``."""
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{sign}"
    return f"{value:.3g}".replace("e-0", "e-")


def pixels(values: Sequence[float]) -> str:
    """Write coordinates with one decimal, as short as they can be."""
    return " ".join(pixel(value) for value in values)


def pixel(value: float) -> str:
    """Write one coordinate with one decimal, and none if it is whole."""
    text = f"{value:.1f}"
    return text.removesuffix(".0")
