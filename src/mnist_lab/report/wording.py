"""The words that text and pages share: the verdict, differences, durations."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_lab.config import OBJECTIVES, describe_value
from mnist_lab.report.noise import Noise
from mnist_lab.study import Confirmation, Ledger, WarmPoint


def give_verdict(
    study: Ledger, confirmation: Confirmation | None, noise: Noise | None, champion: str = ""
) -> str:
    """Say which trial to take, and how sure that is; ``champion`` is MODEL/VERSION or empty."""
    objective, ranked = study.record.objective, study.ranked()
    if not ranked:
        return f"No trial of {study.name} has been trained to its end yet."
    best = ranked[0]
    said = f"Best single run: {describe_value(objective, best.value)} (trial {best.number})."
    if confirmation is not None:
        said = _confirmed(confirmation)
    elif noise is not None and noise.tied > 1:
        difference = describe_difference(objective, noise.difference)
        said += f" {describe_ties(noise)}: single runs differ by {difference} by chance."
    return f"{said} The champion, {champion}, comes of this study." if champion else said


def describe_ties(noise: Noise) -> str:
    """Say how many trials are as good as the best, as far as single runs can show."""
    if noise.tied > 1:
        return f"The best {noise.tied} of {noise.of} trials cannot be told apart"
    return "The best is ahead of all others by more"


def describe_difference(objective: str, difference: float) -> str:
    """Return a difference of two values of an objective: of shares in points."""
    return f"{100 * difference:.2f} points" if OBJECTIVES[objective] else f"{difference:.4f}"


def _confirmed(confirmation: Confirmation) -> str:
    chosen, objective = confirmation.choice, confirmation.objective
    mean, low, high = (
        describe_value(objective, value) for value in (chosen.mean, chosen.low, chosen.high)
    )
    said = (
        f"Take trial {chosen.trial}: {mean} in the mean of {confirmation.seeds} fresh trainings "
        f"(95 % interval {low} to {high})"
    )
    others = sum(row.said == "tied" for row in confirmation.rows)
    if others:
        said += f"; {others} of the others cannot be told apart from it"
    said += "."
    if confirmation.optimism is not None and confirmation.optimism > 0:
        luck = describe_difference(objective, confirmation.optimism)
        said += f" The search's best owed {luck} to luck."
    return said


def describe_warm_points(points: Sequence[WarmPoint] | None) -> str:
    """Say where the points of a warm start came from; empty if none were looked for."""
    if points is None:
        return ""
    named = ", ".join(f"trial {each.trial} of {each.study}" for each in points)
    if not points:
        return (
            "The warm start found no room, or no point far enough from those that are tried anyway."
        )
    return f"From earlier studies it tried {named}."


def describe_duration(seconds: float) -> str:
    """Write seconds as people say them: ``48 s``, ``3 min``, ``2.1 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
