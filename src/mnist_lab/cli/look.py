"""``spaces``, ``studies``, ``leaderboard`` and ``compare``: the commands that only look."""

from __future__ import annotations

import json
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_lab.cli.output import JSON_OPTION, percent, print_json, print_table

if TYPE_CHECKING:
    from mnist_lab.execution import SpaceCheck
    from mnist_lab.report import LeaderboardRow, TrialComparison
    from mnist_lab.spaces import ParamValue, SearchSpace


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command()(spaces)
    app.command()(studies)
    app.command()(leaderboard)
    app.command()(compare)


def spaces(
    name: Annotated[str | None, typer.Argument(help="Show this space: cnn, cnn-v1.")] = None,
    space_file: Annotated[
        str | None, typer.Option(metavar="FILE.py:NAME", help="Show the space in a file.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Build every corner, train one step (takes Keras)."),
    ] = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """List the search spaces, or show one.

    Of one: its parameters, ranges, conditions and baseline.

    Example: mnist-lab spaces cnn --check
    """
    from mnist_lab.spaces import BUILDS, get_space, list_spaces, run_description

    wanted = space_file or name
    if wanted is None:
        rows = list(list_spaces().values())
        if as_json:
            print_json([space.to_dict() for space in rows])
            return
        columns = (
            ("space", lambda space: space.id),
            ("parameters", lambda space: str(len(space.distributions))),
            ("description", lambda space: space.description),
        )
        print_table(rows, columns)
        typer.echo(f"\nShow one: mnist-lab spaces {rows[-1].name}")
        return
    space = get_space(wanted)
    survey = run_description(wanted, builds=BUILDS)["survey"] if space.asks else None
    checked = _check(space) if check else None
    if as_json:
        found = {"baseline": space.baseline, "corners": checked, "survey": survey}
        print_json({**space.to_dict(), **found})
        return
    if survey is None:
        _print_space(space)
    else:
        _print_survey(space, survey)
    if checked is not None:
        sizes = f"Keras parameters: baseline {checked.baseline:,}"
        if not space.asks:
            least, most = f"{checked.least:,}", f"{checked.most:,}"
            sizes = (
                f"Every corner builds, the baseline trains. {sizes}, corners {least} to {most} "
                f"({checked.builds} of them)"
            )
        typer.echo(f"{sizes}.")
        for key, fact in checked.form.items():
            typer.echo(f"  {key}: {fact}")


def _check(space: SearchSpace) -> SpaceCheck:
    from mnist_lab.execution import check_space, usable_cores
    from mnist_lab.training import Runtime, configure

    configure(Runtime(threads=usable_cores()))
    return check_space(space)


def _print_survey(space: SearchSpace, survey: dict[str, Any]) -> None:
    """What many builds of a space that asks have asked for."""
    from optuna.distributions import json_to_distribution

    from mnist_lab.errors import ConfigurationError
    from mnist_lab.spaces import describe_range

    columns = (
        ("parameter", lambda row: row["name"]),
        (
            "range",
            lambda row: describe_range(json_to_distribution(json.dumps(row["distribution"]))),
        ),
        ("baseline", lambda row: str(row["default"])),
        ("asked when", lambda row: row["condition"]),
    )
    print_table(survey["parameters"], columns, title=f"{space.id}: {space.description}")
    typer.echo(
        f"\nThis is what {survey['builds']} builds asked for; the code may ask for more. It is "
        "searched as it is asked for."
    )
    for message, count in survey["failures"].items():
        typer.echo(f"{count} more builds failed: {message}", err=True)
    if not survey["builds"]:
        raise ConfigurationError(
            f"No model of {space.reference} can be built.", next_step="Correct what is said above."
        )


def _print_space(space: SearchSpace) -> None:
    from mnist_lab.spaces import describe_range

    baseline = space.baseline
    columns = (
        ("parameter", str),
        ("range", lambda name: describe_range(space.distributions[name])),
        ("baseline", lambda name: str(baseline.get(name, "-"))),
        (
            "condition",
            lambda name: (
                space.explain_condition(name).partition(" is used ")[2]
                if name in space.conditions
                else ""
            ),
        ),
    )
    print_table(list(space.distributions), columns, title=f"{space.id}: {space.description}")
    if space.baseline_size is not None:
        typer.echo(f"\nThe baseline has {space.baseline_size:,} Keras parameters.")


def studies(as_json: bool = JSON_OPTION) -> None:
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


def leaderboard(
    study: Annotated[str | None, typer.Argument(help="[default: the latest study]")] = None,
    top: Annotated[int | None, typer.Option(help="Only so many rows.")] = None,
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
    rows = report.leaderboard(opened, top=top)
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


def compare(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Its name.")],
    trials: Annotated[list[str], typer.Argument(metavar="TRIAL...", help="Two or more numbers.")],
    as_json: bool = JSON_OPTION,
) -> None:
    """Show trials of a study side by side.

    Of their parameters those that differ; and how they stood after the last epoch that all have had.

    Example: mnist-lab compare mnist-cnn-v2-10ep 0 1
    """
    from mnist_lab import report
    from mnist_lab.settings import Settings
    from mnist_lab.study import open_study

    found = report.compare(open_study(Settings(), study), trials)
    if as_json:
        print_json(found)
        return
    _print_comparison(found)


def _print_comparison(found: TrialComparison) -> None:
    rows = [*found.facts.items(), *found.differ.items()]
    if found.after:
        rows.insert(2, (f"val_accuracy, epoch {found.after}", found.then))
    cells = [(name, *(_cell(name, value) for value in values)) for name, values in rows]
    names = ["", *(f"trial {number}" for number in found.trials)]
    columns = [(name, itemgetter(place)) for place, name in enumerate(names)]
    print_table(cells, columns, title=found.study)
    typer.echo(f"\nThe same in all: {describe_params(dict(found.same), most=len(found.same))}")
    if found.told_apart is None:
        typer.echo("They have not been trained for as many epochs, so their best is no comparison.")
    elif found.told_apart:
        typer.echo("The best two differ by more than single runs do by chance.")
    else:
        again = f"To train the study's best again: mnist-lab confirm {found.study}"
        typer.echo(f"The best two cannot be told apart from single runs. {again}")


def _cell(name: str, value: ParamValue | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and "accuracy" in name:
        return percent(value)
    if name == "parameters":
        return f"{value:,.0f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def print_leaderboard(rows: list[LeaderboardRow], *, title: str) -> None:
    """Print ``rows`` as the table that sweeps and ``leaderboard`` end with."""
    if not rows:
        typer.echo(f"{title}\nNo trial has been trained to its end yet.")
        return
    columns = (
        ("rank", lambda row: str(row.rank)),
        ("trial", lambda row: f"{row.trial}{' (baseline)' if row.baseline else ''}"),
        ("val_accuracy", lambda row: percent(row.val_accuracy)),
        ("cross_entropy", lambda row: f"{row.cross_entropy:.4f}"),
        ("epoch", lambda row: str(row.best_epoch)),
        ("parameters", lambda row: f"{row.parameters:,}"),
        ("seconds", lambda row: f"{row.seconds:.1f}"),
        ("what", lambda row: describe_params(row.params)),
    )
    print_table(rows, columns, title=title)


def describe_params(params: object, most: int = 4) -> str:
    """The first few parameters, which are those of the architecture."""
    assert isinstance(params, dict)
    shown = list(params.items())[:most]
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in shown
    )
