"""A study in plain Markdown: what was searched, found, is uncertain, and what to do next."""

from __future__ import annotations

from mnist_lab.report.again import limits_of
from mnist_lab.report.images import Mistakes
from mnist_lab.report.study_report import StudyReport
from mnist_lab.report.wording import describe_duration, describe_ties, describe_warm_points

TOP, MOST_SUSPECTS = 5, 10


def explain(report: StudyReport) -> str:
    """Return the text. The same report gives the same text."""
    parts = [
        f"# {report.record.name}",
        f"**{report.verdict}**",
        "\n".join(["## Searched", "", *_searched(report)]),
        "\n".join(["## Found", "", *_found(report)]),
        "\n".join(["## Uncertain", "", *_uncertain(report)]),
        "\n".join(["## Next", "", *next_steps(report)]),
    ]
    return "\n\n".join(parts) + "\n"


def _searched(report: StudyReport) -> list[str]:
    record = report.record
    counts = ", ".join(f"{count} {state}" for state, count in report.counts.items())
    sampler, pruner = (record.settings.get(name, "?") for name in ("sampler", "pruner"))
    warm = describe_warm_points(report.warm_points)
    limits = ", ".join(f"{name} at most {most}" for name, most in limits_of(report).items())
    lines = [
        f"- Space {record.space}; {record.objective} after at most {record.epochs} epochs.",
        f"- Sampler {sampler}, pruner {pruner}.",
        f"- Data: {record.data or record.dataset}",
        *([f"- Limits: {limits}."] if limits else []),
        *([f"- {warm}"] if warm else []),
        f"- Trials: {counts or 'none'}; {report.cost.epochs:,} epochs.",
    ]
    if report.state == "running":
        lines.append("- A sweep is training more trials now.")
    if report.stopped:
        lines.append(f"- The last sweep stopped early: {report.stopped}.")
    if report.pruning is not None:
        lines.append(f"- {report.pruning}")
    if report.failures:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.failures.items())
        lines.append(f"- Failures: {reasons}.")
    return lines


def _found(report: StudyReport) -> list[str]:
    if not report.rows:
        return ["Nothing yet."]
    name = report.record.objective
    lines = [
        f"| rank | trial | {name} | cross-entropy | parameters | seconds |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.rank} | {row.trial}{' (baseline)' if row.baseline else ''} "
        f"| {report.show(row.value)} | {row.cross_entropy:.4f} | {row.parameters:,} "
        f"| {row.seconds:.1f} |"
        for row in report.rows[:TOP]
    ]
    best = report.rows[0]
    params = ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in best.params.items()
        if name in report.differing
    )
    lines += ["", f"Trial {best.trial}: {params or 'no parameter differs between trials'}."]
    if report.importances:
        lines += ["", "What mattered (PED-ANOVA, 95 % interval over resampled trials):", ""]
        lines += [
            f"- {each.name}: {each.share:.0%} ({each.low:.0%} to {each.high:.0%})"
            + (f", better with {each.direction}" if each.direction else "")
            for each in report.importances[:TOP]
        ]
    return lines


def _uncertain(report: StudyReport) -> list[str]:
    lines = []
    if report.confirmation is not None:
        rows = report.confirmation.rows
        lines.append(
            f"- Means of {report.confirmation.seeds} trainings closer than "
            f"{report.show_difference(report.confirmation.difference)} are tied: "
            f"{', '.join(f'trial {row.trial}' for row in rows if row.tied)}."
        )
    if report.noise is not None:
        lines.append(
            f"- Single runs differ by {report.show_difference(report.noise.difference)} by chance. "
            f"{describe_ties(report.noise)}."
        )
    lines += [
        f"- {more.trials} more trials would take about {describe_duration(more.seconds)}; the chance "
        f"that they gain {report.show_difference(more.gain)} or more is {more.chance:.0%}."
        for more in report.more
    ]
    if report.images is not None:
        lines += _images(report.images)
    return lines or ["Too few trials to say."]


def _images(found: Mistakes) -> list[str]:
    models, missed, split = len(found.trials), len(found.missed_by_all), len(found.split)
    said = (
        f"- Of {found.images:,} validation images the {models} best models all miss {missed} and "
    )
    lines = [f"{said}disagree about {split}; {len(found.suspects)} labels are suspected."]
    lines += [
        f"  - {row.place or row.index}: labelled {row.label}, models say {row.said} "
        f"({row.confidence:.0%} sure)"
        for row in found.suspects[:MOST_SUSPECTS]
    ]
    return lines


def next_steps(report: StudyReport) -> list[str]:
    """Return what to type next, by what is known."""
    name = report.record.name
    if not report.rows:
        return [f"- Look at the failures: `mnist-lab doctor`, `mnist-lab leaderboard {name}`."]
    lines = []
    if report.confirmation is None:
        lines.append(f"- Train the best again with fresh seeds: `mnist-lab confirm {name}`.")
    elif not report.champion:
        lines.append(f"- Let the gate decide: `mnist-lab promote {name}`.")
    if report.images is not None and report.images.suspects:
        lines.append(f"- Look at the suspected labels: `mnist-lab mistakes {name} --open`.")
    lines.append(f"- See it all on one page: `mnist-lab report {name} --open`.")
    return lines
