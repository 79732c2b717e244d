"""The charts of a study, made of its facts alone: the same study gives the same text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from mnist_lab.config import MAXIMUM_LATENCY, MAXIMUM_PARAMETERS
from mnist_lab.report.page.scale import Bands, Scale, make_scale
from mnist_lab.report.page.svg import Chart
from mnist_lab.report.study_report import StudyReport, busy_seconds
from mnist_lab.study import TrialFacts

MOST_SLICES, MOST_AXES = 9, 7
FATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class Figure:
    """A chart with its ``heading``, and what it shows in a sentence."""

    heading: str
    caption: str
    svg: str


def progress(report: StudyReport, *, by_epochs: bool) -> Figure:
    """Best so far against wall time, or against the epochs trained by then."""
    done = sorted((t for t in report.trials if t.is_finished), key=lambda each: each.ended)
    at = _epochs_by(done) if by_epochs else _seconds_by(report.trials)
    ranked = {row.trial for row in report.rows}
    shown = [trial for trial in done if trial.number in ranked]
    x_label = "epochs trained"
    if not by_epochs:
        unit, length = _time_unit(max(at.values()))
        at = {number: seconds / length for number, seconds in at.items()}
        x_label = f"{unit} in which trials ran"
    chart = Chart(
        title=f"Best {report.record.objective} so far against {x_label}",
        x_label=x_label,
        y_label=report.record.objective,
    )
    x = make_scale([0.0, *at.values()], *chart.x_range, whole=by_epochs)
    y = _value_scale(report, [trial.value or 0.0 for trial in shown], chart)
    if report.noise is not None and report.best is not None:
        value = report.best.value or 0.0
        away = -report.noise.difference if report.is_share else report.noise.difference
        chart.band(y, *sorted((value, value + away)))
    chart.axes(x, y)
    for trial in done:
        if trial.state == TrialState.PRUNED:
            chart.tick(x(at[trial.number]), "pruned", trial.number)
        elif trial.state == TrialState.FAIL:
            chart.cross(x(at[trial.number]), chart.y_range[0] - 4, "failed", trial.number)
    steps = _best_so_far([(at[trial.number], trial) for trial in shown], until=max(at.values()))
    chart.line([(x(place), y(value)) for place, value in steps], "best")
    for trial in shown:
        mark = chart.square if trial.baseline or trial.queued else chart.dot
        kind = "done baseline" if trial.baseline else "done"
        mark(x(at[trial.number]), y(trial.value or 0.0), kind, trial.number)
    caption = (
        "The line is the best so far; squares are the baseline (filled) and initial points, circles "
        "drawn ones, strokes at the bottom pruned trials, crosses failed ones."
    )
    if report.noise is not None:
        caption += " In the shaded band trials cannot be told apart from the best."
    return Figure(f"Against {'epochs' if by_epochs else 'time'}", caption, chart.svg())


def _epochs_by(done: Sequence[TrialFacts]) -> dict[int, float]:
    """The epochs that all trials had been trained by the end of each."""
    spent, at = 0.0, {}
    for trial in done:
        spent += len(trial.history)
        at[trial.number] = spent
    return at


def _seconds_by(trials: Sequence[TrialFacts]) -> dict[int, float]:
    """The seconds in which any trial ran, by the end of each: pauses between sweeps are left out."""
    spent = busy_seconds(trials)
    return {trial.number: spent(trial.ended) for trial in trials if trial.is_finished}


def _time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit in which an axis of so many seconds is read, and its length in seconds."""
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _best_so_far(
    shown: Sequence[tuple[float, TrialFacts]], *, until: float
) -> list[tuple[float, float]]:
    """The corners of the staircase of the best value."""
    corners: list[tuple[float, float]] = []
    best: TrialFacts | None = None
    for place, trial in shown:
        if best is None or trial.score > best.score:
            if best is not None:
                corners.append((place, best.value or 0.0))
            corners.append((place, trial.value or 0.0))
            best = trial
    return [*corners, (until, best.value or 0.0)] if best is not None else []


def slices(report: StudyReport) -> list[Figure]:
    """The objective against each parameter, the most important first."""
    order = {each.name: place for place, each in enumerate(report.importances)}
    names = sorted(report.differing, key=lambda name: order.get(name, len(order)))
    return [_slice(report, name) for name in names[:MOST_SLICES]]


def _slice(report: StudyReport, name: str) -> Figure:
    ranked = {row.trial for row in report.rows}
    shown = [t for t in report.trials if t.number in ranked and name in t.params]
    failed = [t for t in report.trials if t.state == TrialState.FAIL and name in t.params]
    chart = Chart(
        title=f"{report.record.objective} against {name}",
        x_label=name,
        y_label=report.record.objective,
        width=290,
        height=190,
    )
    x = _parameter_scale(name, [*shown, *failed], chart.x_range)
    y = _value_scale(report, [trial.value or 0.0 for trial in shown], chart)
    chart.axes(x, y)
    for trial in failed:
        chart.cross(_at(x, trial.params[name]), chart.y_range[0] - 5, "failed", trial.number)
    best = report.best.trial if report.best else -1
    for trial in sorted(shown, key=lambda each: each.number == best):
        kind = "top" if trial.number == best else "done"
        chart.dot(_at(x, trial.params[name]), y(trial.value or 0.0), kind, trial.number, radius=3)
    return Figure(name, "", chart.svg())


def parallel(report: StudyReport) -> Figure | None:
    """Parallel coordinates of the most important parameters and the objective."""
    ranked = {row.trial for row in report.rows}
    done = [trial for trial in report.trials if trial.number in ranked]
    order = {each.name: place for place, each in enumerate(report.importances)}
    # A parameter with a condition would leave out the trials without it.
    common = [name for name in report.differing if all(name in trial.params for trial in done)]
    names = sorted(common, key=lambda name: order.get(name, len(order)))[:MOST_AXES]
    shown = [trial for trial in done if all(name in trial.params for name in names)]
    if len(names) < 2 or len(shown) < 3:
        return None
    chart = Chart(
        title="Parallel coordinates of the complete trials",
        x_label="",
        y_label="",
        width=760,
        kind="parallel",
    )
    bottom, top = chart.height - 16, 34
    axes: list[Callable[[TrialFacts], float]] = []
    step = (chart.width - 2 * LEFT_MARGIN) / len(names)
    for place, name in enumerate(names):
        scale = _parameter_scale(name, shown, (bottom, top))
        _axis(chart, LEFT_MARGIN + step * place, scale, name, place, (bottom, top))
        axes.append(lambda trial, scale=scale, name=name: _at(scale, trial.params[name]))  # type: ignore[misc]
    values = [trial.value or 0.0 for trial in shown]
    last = make_scale(values, bottom, top, percent=report.is_share)
    _axis(
        chart, LEFT_MARGIN + step * len(names), last, report.record.objective, len(names),
        (bottom, top),
    )  # fmt: skip
    axes.append(lambda trial: last(trial.value or 0.0))
    by_score = sorted(shown, key=lambda trial: trial.score)
    for place, trial in enumerate(by_score):
        kind = f"path q{5 * place // len(by_score)}"
        points = [(LEFT_MARGIN + step * at, axis(trial)) for at, axis in enumerate(axes)]
        chart.line(points, kind, trial.number)
    caption = (
        "Each line is a trial, darker the better. Drag along an axis to keep the lines that cross "
        "there; click the axis to take all again."
    )
    return Figure("Parallel coordinates", caption, chart.svg())


LEFT_MARGIN = 46
LONGEST_NAME = 24


def _axis(
    chart: Chart,
    x: float,
    scale: Scale | Bands,
    name: str,
    place: int,
    ends: tuple[float, float],
) -> None:
    bottom, top = ends
    shown = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    chart.text(x, 12 if place % 2 == 0 else 24, shown, "name" if place == 0 else "middle name")
    chart.parts.append(f'<path class="axis" d="M{x:.1f} {top}V{bottom}"/>')
    for at, text in scale.marks:
        chart.text(x + 4, at + 3, text, "small")
    # What is dragged on: wider than the line that is seen.
    chart.parts.append(
        f'<rect class="brush" data-axis="{place}" x="{x - 9:.1f}" y="{top}" width="18" '
        f'height="{bottom - top}"/>'
    )


def curves(report: StudyReport) -> Figure:
    """The objective after each epoch, of every trial, by its fate."""
    shown = [trial for trial in report.trials if trial.history]
    chart = Chart(
        title=f"{report.record.objective} after each epoch, by trial",
        x_label="epoch",
        y_label=report.record.objective,
    )
    values = [epoch.value for trial in shown for epoch in trial.history]
    x = make_scale([1, report.record.epochs], *chart.x_range, whole=True)
    y = _value_scale(report, _without_outliers(values, more_is_better=report.is_share), chart)
    chart.axes(x, y)
    best = report.best.trial if report.best else -1
    order = {"pruned": 0, "failed": 1, "running": 2, "done": 3}
    for trial in sorted(shown, key=lambda t: (t.number == best, order[_fate(t)])):
        kind = "curve top" if trial.number == best else f"curve {_fate(trial)}"
        points = [(x(epoch.epoch), y(epoch.value)) for epoch in trial.history]
        if len(points) == 1:
            chart.dot(*points[0], kind.removeprefix("curve "), trial.number, radius=2)
        else:
            chart.line(points, kind, trial.number)
    caption = "Complete trials, pruned and failed ones; the best is drawn last."
    return Figure("Learning curves", caption, chart.svg())


def costs_of_models(report: StudyReport) -> list[Figure]:
    """The objective against parameters, and against milliseconds an image where they were measured."""
    sizes = {row.trial: float(row.parameters) for row in report.rows}
    times = {row.trial: row.latency or 0.0 for row in report.rows}
    limits = (float(MAXIMUM_PARAMETERS), MAXIMUM_LATENCY)
    found = (
        _cost_of_models(report, "Size", "parameters of the model", sizes, limits[0]),
        _cost_of_models(report, "Latency", "milliseconds for one image", times, limits[1]),
    )
    return [figure for figure in found if figure is not None]


def _cost_of_models(
    report: StudyReport, heading: str, x_label: str, costs: Mapping[int, float], limit: float
) -> Figure | None:
    """The objective against what models cost, by trial, with the Pareto front and the gate's limit."""
    rows = [row for row in report.rows if costs[row.trial] > 0 and row.value is not None]
    if not rows:
        return None
    objective = report.record.objective
    chart = Chart(title=f"{objective} against {x_label}", x_label=x_label, y_label=objective)
    x = make_scale([costs[row.trial] for row in rows], *chart.x_range, log=True)
    y = _value_scale(report, [row.value or 0.0 for row in rows], chart)
    chart.axes(x, y)
    beyond = sum(costs[row.trial] > limit for row in rows)
    if x.low < limit < x.high:
        chart.rule(x(limit), "limit")
    front, least = set(), math.inf
    for row in rows:  # best first
        if costs[row.trial] < least:
            front.add(row.trial)
            least = costs[row.trial]
    corners = sorted((costs[row.trial], row.value or 0.0) for row in rows if row.trial in front)
    chart.line([(x(cost), y(value)) for cost, value in corners], "best")
    for row in sorted(rows, key=lambda row: row.trial in front):
        kind = "top" if row.trial in front else "done"
        chart.dot(x(costs[row.trial]), y(row.value or 0.0), kind, row.trial)
    caption = "The line joins the trials that no cheaper one equals (the Pareto front)."
    if beyond:
        caption += f" {beyond} of {len(rows)} are beyond the gate's limit."
    return Figure(heading, caption, chart.svg())


def _fate(trial: TrialFacts) -> str:
    return FATES.get(trial.state, "running")


def _value_scale(report: StudyReport, values: Sequence[float], chart: Chart) -> Scale:
    if len(values) > 10:
        values = _without_outliers(values, more_is_better=report.is_share)
    return make_scale(values, *chart.y_range, percent=report.is_share)


def _without_outliers(values: Sequence[float], *, more_is_better: bool) -> list[float]:
    """Drop the worst tenth where it is far from the rest: what is good should fill the chart."""
    ordered = sorted(values, reverse=more_is_better)
    kept = ordered[: max(2, round(0.9 * len(ordered)))]
    spread = abs(kept[0] - kept[-1]) if kept else 0.0
    return [each for each in ordered if abs(each - kept[0]) <= 1.5 * spread] if spread else ordered


def _parameter_scale(
    name: str, trials: Sequence[TrialFacts], ends: tuple[float, float]
) -> Scale | Bands:
    """A scale as the space declares it: categories in their order, logarithmic where it says so."""
    declared: BaseDistribution | None = next(
        (trial.distributions[name] for trial in trials if name in trial.distributions), None
    )
    values = [trial.params[name] for trial in trials if name in trial.params]
    numbers = [
        float(value)
        for value in values
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if isinstance(declared, CategoricalDistribution) or len(numbers) < len(values):
        names = [str(each) for each in getattr(declared, "choices", ())]
        return Bands(
            names=tuple(dict.fromkeys([*names, *map(str, values)])), start=ends[0], end=ends[1]
        )
    log = bool(getattr(declared, "log", False)) and all(value > 0 for value in numbers)
    return make_scale(numbers, *ends, log=log, whole=isinstance(declared, IntDistribution))


def _at(scale: Scale | Bands, value: object) -> float:
    return scale(value) if isinstance(scale, Bands) else scale(float(value))  # type: ignore[arg-type]


__all__ = ["Figure", "costs_of_models", "curves", "parallel", "progress", "slices"]
