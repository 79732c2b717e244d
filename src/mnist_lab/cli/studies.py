"""``studies``, ``leaderboard`` and ``reproduce``: the studies and their trials."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mnist_lab.cli.models import find_model
from mnist_lab.cli.options import DatasetPlace, StudyName, add, sweep_options
from mnist_lab.cli.output import JSON_OPTION, percent, print_json, print_table

if TYPE_CHECKING:
    from mnist_lab.report import LeaderboardRow, ParetoFigure
    from mnist_lab.settings import Settings
    from mnist_lab.study import Ledger, TrialFacts


EXIT_DIVERGED = 1
BARS = "▁▂▃▄▅▆▇█"


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    add(app, "studies", studies_command)
    add(app, "leaderboard", leaderboard_command)
    add(app, "reproduce", reproduce_command, trains=True)


def studies_command(as_json: bool = JSON_OPTION) -> None:
    """List the studies in this folder, oldest first.

    Example: mnist-lab studies --json
    """
    from mnist_lab.report import list_studies
    from mnist_lab.settings import Settings

    rows = list_studies(Settings())
    if as_json:
        print_json(rows)
        return
    columns = (
        ("study", lambda row: row.study),
        ("space", lambda row: row.space),
        ("dataset", lambda row: row.dataset),
        ("epochs", lambda row: str(row.epochs)),
        ("complete", lambda row: str(row.complete)),
        ("pruned", lambda row: str(row.pruned)),
        ("failed", lambda row: str(row.failed)),
        ("unfinished", lambda row: str(row.unfinished)),
        ("best", lambda row: percent(row.best_val_accuracy)),
    )
    print_table(rows, columns)


def leaderboard_command(
    study: StudyName = None,
    top: Annotated[int | None, typer.Option(help="Only so many rows.")] = None,
    pareto: Annotated[
        str | None,
        typer.Option(
            metavar="FIGURE",
            help="Only trials that no better one undercuts in it: parameters, seconds or latency.",
        ),
    ] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Show the complete trials of a study, best first.

    Example: mnist-lab leaderboard mnist-cnn-v2-10ep --top 5
    """
    from mnist_lab import report
    from mnist_lab.settings import Settings
    from mnist_lab.study import open_study

    settings = Settings()
    name = study or report.latest_study(settings)
    opened = open_study(settings, name)
    rows = report.leaderboard(opened, top=top, pareto=_figure(pareto))
    foreign = opened.count_foreign()
    if foreign:
        typer.echo(
            f"Left out, because mnist-lab did not write them: {foreign} trial{'s' * (foreign != 1)}.",
            err=True,
        )
    if as_json:
        print_json(rows)
        return
    print_leaderboard(rows, title=name)


def _figure(text: str | None) -> ParetoFigure | None:
    from mnist_lab.errors import UsageError
    from mnist_lab.report import FIGURES

    if text is None or text in FIGURES:
        return cast("ParetoFigure | None", text)
    raise UsageError(
        f"There is no figure {text!r} to compare trials by: {', '.join(FIGURES)} are.",
        next_step="Type for example: mnist-lab leaderboard --pareto parameters",
    )


def print_leaderboard(rows: list[LeaderboardRow], *, title: str) -> None:
    """Print ``rows`` as the table that sweeps and ``leaderboard`` end with."""
    if not rows:
        typer.echo(f"{title}\nNo trial has been trained to its end yet.")
        return
    from mnist_lab.config import VAL_ACCURACY, describe_value

    name = rows[0].objective
    objective = [(name, lambda row: describe_value(name, row.value))]
    objective = objective if name != VAL_ACCURACY else []
    columns = (
        ("rank", lambda row: str(row.rank)),
        ("trial", lambda row: f"{row.trial}{' (baseline)' if row.baseline else ''}"),
        *objective,
        ("val_accuracy", lambda row: percent(row.val_accuracy)),
        ("cross_entropy", lambda row: f"{row.cross_entropy:.4f}"),
        ("epoch", lambda row: str(row.best_epoch)),
        ("parameters", lambda row: f"{row.parameters:,}"),
        ("seconds", lambda row: f"{row.seconds:.1f}"),
        *_latency_column(rows),
        *_curve_column(rows),
        ("what", lambda row: describe_params(row.params)),
    )
    print_table(rows, columns, title=title, optional={"curve": 14, "ms": 6, "what": 28})


def _latency_column(
    rows: list[LeaderboardRow],
) -> list[tuple[str, Callable[[LeaderboardRow], str]]]:
    """A column of milliseconds an image, unless all rows are of a version that measured none."""
    if all(row.latency is None for row in rows):
        return []
    return [("ms", lambda row: "" if row.latency is None else f"{row.latency:.2f}")]


def _curve_column(rows: list[LeaderboardRow]) -> list[tuple[str, Callable[[LeaderboardRow], str]]]:
    """A column of sparklines, for a terminal that shows their characters."""
    stream = sys.stdout
    if not stream.isatty() or not (stream.encoding or "").lower().startswith("utf"):
        return []
    ends = sorted(value for row in rows for value in row.curve)
    if not ends or max(len(row.curve) for row in rows) < 2:
        return []
    low, high = ends[0], ends[-1]
    return [("curve", lambda row: sparkline(row.curve, low, high))]


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """Draw values in [low, high] as one character each; of more than twelve, twelve."""
    step = max(1.0, len(values) / 12)
    places = [int(step * each) for each in range(int(len(values) / step))]
    chosen = [values[place] for place in places[:-1]] + list(values[-1:])
    span = high - low or 1.0
    return "".join(BARS[min(7, int(8 * max(0.0, value - low) / span))] for value in chosen)


def describe_params(params: object, most: int = 4) -> str:
    """Describe the first few parameters, which are those of the architecture."""
    assert isinstance(params, dict)
    shown = list(params.items())[:most]
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in shown
    )


@sweep_options("executor")
def reproduce_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|MODEL@ALIAS|MODEL/VERSION", help="What is to be trained again."
        ),
    ],
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="Of a study.  [default: its best]")
    ] = "",
    dataset: DatasetPlace = None,
    as_json: bool = JSON_OPTION,
    **typed: Any,
) -> None:
    """Train a trial again from its record, and compare every epoch.

    Complete trials only. It is bit-exact, within tolerance (0.3 points of validation accuracy), or
    diverged: exit code 1.

    Example: mnist-lab reproduce mnist-cnn-v2-10ep
    """
    from mnist_lab.settings import Settings
    from mnist_lab.sweep import reproduce

    settings = Settings()
    study, found = _find_record(target, trial, settings)
    done = reproduce(study, found, settings, dataset=dataset, **typed)
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(
            f"{done.study} trial {done.trial}: {done.outcome} over {done.epochs} epochs. Best "
            f"validation accuracy recorded {percent(done.recorded)}, found {percent(done.found)}."
        )
        if done.first_difference is not None:
            typer.echo(f"Epoch {done.first_difference} is the first that differs.")
        for name, (then, now) in done.environment.items():
            typer.echo(f"  {name}: {then} then, {now} now")
    if done.outcome == "diverged":
        raise typer.Exit(EXIT_DIVERGED)


def _find_record(target: str, trial: str, settings: Settings) -> tuple[Ledger, TrialFacts]:
    from mnist_lab.models import is_version
    from mnist_lab.study import open_study
    from mnist_lab.tracking.store import open_client

    if is_version(target):
        model = find_model(open_client(settings), target, settings)
        study = open_study(settings, model.study)
        return study, study.trial(model.trial)
    study = open_study(settings, target)
    return study, study.find_trial(trial)
