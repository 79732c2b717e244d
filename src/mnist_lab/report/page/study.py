"""A study as a page."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from mnist_lab.config import MAXIMUM_FILE_SIZE, MAXIMUM_LATENCY, MAXIMUM_PARAMETERS
from mnist_lab.report.images import ImageRow, Mistakes
from mnist_lab.report.page import charts
from mnist_lab.report.page.environment import inline_json, render
from mnist_lab.report.page.pictures import Sprite, make_sprite
from mnist_lab.report.page.svg import sparkline
from mnist_lab.report.study_report import StudyReport
from mnist_lab.report.summary import MIN_TRIALS_FOR_IMPORTANCE
from mnist_lab.report.wording import describe_ties, describe_warm_points
from mnist_lab.study import STATES, TrialFacts

MOST_PICTURES = 24
MOST_NAMED_CLASSES = 20
SECTIONS = (
    ("verdict", "Verdict"),
    ("leaderboard", "Leaderboard"),
    ("search", "Search"),
    ("parameters", "What mattered"),
    ("epochs", "Epochs"),
    ("failures", "Failures"),
    ("images", "Images"),
    ("size", "Size"),
    ("cost", "Cost"),
    ("again", "Do it again"),
)
NOISE_SOURCES = {
    "replicas": "by trainings of the same configurations with other seeds",
    "images": "by the images on which the best two differ",
    "count": "by the number of validation images",
}


def render_study(report: StudyReport, *, commands: str, toml: str = "", commit: str = "") -> str:
    """Return the page. The same report gives the same text.

    ``commands`` make the study again; ``toml`` is its experiment.
    """
    hard = _hard(report.images)
    sprite = _sprite(report, hard)
    return render(
        "study.html.j2",
        title=report.record.name,
        report=report,
        sections=SECTIONS,
        rows=report.rows,
        columns=_columns(report),
        intervals=_intervals(report),
        sparklines=_sparklines(report),
        progress=_progress(report),
        warm=describe_warm_points(report.warm_points),
        ties=describe_ties(report.noise) if report.noise else "",
        noise_source=NOISE_SOURCES[report.noise.source] if report.noise else "",
        least_for_importance=MIN_TRIALS_FOR_IMPORTANCE,
        slices=charts.slices(report) if report.rows else [],
        parallel=charts.parallel(report),
        curves=charts.curves(report) if any(t.history for t in report.trials) else None,
        audited=[f"trial {t.number}" for t in report.trials if t.audited_at is not None],
        examples=_examples(report.trials),
        failing=_failing(report),
        mistakes=report.images,
        hard=hard,
        sprite=sprite,
        sprite_css=sprite.css,
        most=MOST_PICTURES,
        confusion=_confusion(report),
        costs=charts.costs_of_models(report),
        most_parameters=MAXIMUM_PARAMETERS,
        most_bytes=MAXIMUM_FILE_SIZE,
        most_milliseconds=MAXIMUM_LATENCY,
        commit=commit,
        commands=commands,
        toml=toml,
        versions=_versions(report),
        runs="\n".join(
            f"trial {row.trial}: {row.run or 'not in MLflow yet'}" for row in report.rows
        ),
        data=inline_json(_data(report)),
    )


def _columns(report: StudyReport) -> list[tuple[str, str]]:
    """The columns before the curve, and the direction that a first click sorts in."""
    first = "descending" if report.is_share else "ascending"
    return [
        ("rank", ""),
        ("trial", ""),
        (report.record.objective, first),
        ("trained again (95 %)", ""),
        ("cross-entropy", ""),
        ("parameters", ""),
        ("seconds", ""),
        ("ms an image", ""),
    ]


def _intervals(report: StudyReport) -> dict[int, str]:
    if report.confirmation is None:
        return {}
    return {
        row.trial: f"{report.show(row.low)} to {report.show(row.high)}"
        for row in report.confirmation.rows
    }


def _sparklines(report: StudyReport) -> dict[int, str]:
    ends = sorted(value for row in report.rows for value in row.curve)
    if not ends:
        return {row.trial: "" for row in report.rows}
    low, high = ends[len(ends) // 10], ends[-1]
    return {row.trial: sparkline(row.curve, low, high) for row in report.rows}


def _progress(report: StudyReport) -> list[charts.Figure]:
    if not report.rows:
        return []
    return [charts.progress(report, by_epochs=False), charts.progress(report, by_epochs=True)]


def _examples(trials: tuple[TrialFacts, ...]) -> dict[str, str]:
    """One sentence for each reason of failure."""
    found: dict[str, str] = {}
    for trial in trials:
        if trial.reason:
            found.setdefault(trial.reason, f"trial {trial.number}: {trial.detail}"[:160])
    return found


def _failing(report: StudyReport) -> str:
    """Name the values at which trials fail most: categories, or a half of a range."""
    failed = [trial for trial in report.trials if trial.reason]
    passed = [trial for trial in report.trials if not trial.reason and trial.is_finished]
    if len(failed) < 3 or not passed:
        return ""
    found = []
    for name in dict.fromkeys(name for trial in failed for name in trial.params):
        for value, group in groupby(sorted(str(t.params.get(name)) for t in failed)):
            among = len(list(group)) / len(failed)
            elsewhere = sum(str(t.params.get(name)) == value for t in passed) / len(passed)
            if among >= 0.6 and among - elsewhere >= 0.3:
                found.append(f"{among:.0%} of the failed and {elsewhere:.0%} of the others have "
                             f"{name} = {value}")  # fmt: skip
    return "; ".join(found[:3]) + "." if found else ""


def _hard(mistakes: Mistakes | None) -> list[ImageRow]:
    if mistakes is None:
        return []
    suspects = {row.index for row in mistakes.suspects}
    return [row for row in mistakes.missed_by_all if row.index not in suspects]


def _sprite(report: StudyReport, hard: list[ImageRow]) -> Sprite:
    if report.images is None or report.dataset is None:
        return Sprite()
    shown = (report.images.suspects, hard, report.images.split)
    indices = [row.index for rows in shown for row in rows[:MOST_PICTURES]]
    return make_sprite(report.dataset.validation, indices)


def _confusion(report: StudyReport) -> dict[str, Any] | None:
    """The best trial's confusion matrix less the other's; of many classes those that differ."""
    if len(report.confusions) < 2:
        return None
    (first, a), (second, b) = report.confusions
    names = report.record.images.class_names
    difference = [[x - y for x, y in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]
    weight = [sum(map(abs, row)) + sum(abs(each[i]) for each in difference)
              for i, row in enumerate(difference)]  # fmt: skip
    kept = sorted(sorted(range(len(names)), key=lambda i: (-weight[i], i))[:MOST_NAMED_CLASSES])
    return {
        "first": first,
        "second": second,
        "names": [names[i] for i in kept],
        "rows": [
            (names[i], [(difference[i][j], _judge(difference[i][j], i == j)) for j in kept])
            for i in kept
        ],
    }


def _judge(change: int, is_right: bool) -> str:
    if change == 0:
        return ""
    return "better" if (change > 0) == is_right else "worse"


def _versions(report: StudyReport) -> str:
    best = next((t for t in report.trials if report.best and t.number == report.best.trial), None)
    environment: Mapping[str, str] = best.environment if best else {}
    return "\n".join(f"{name} {value}" for name, value in environment.items())


def _data(report: StudyReport) -> dict[str, Any]:
    return {
        "study": report.record.name,
        "objective": report.record.objective,
        "trials": [
            {
                "number": trial.number,
                "state": STATES.get(trial.state, "waiting"),
                "said": _said(report, trial),
                "value": trial.value,
                "params": dict(trial.params),
                "parameters": trial.scalars.get("parameters"),
                "epochs": [epoch.value for epoch in trial.history],
            }
            for trial in report.trials
        ],
    }


def _said(report: StudyReport, trial: TrialFacts) -> str:
    state = STATES.get(trial.state, "waiting")
    if trial.reason:
        return f"{state}, {trial.reason}"
    after = f" after {len(trial.history)} epochs"
    value = report.show(trial.value) if trial.value is not None else ""
    return f"{value}{after}" if value else f"{state}{after}"
