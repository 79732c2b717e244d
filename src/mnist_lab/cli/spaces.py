"""``spaces``: the search spaces."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_lab.cli.options import add, sweep_options
from mnist_lab.cli.output import JSON_OPTION, print_json, print_table

if TYPE_CHECKING:
    from mnist_lab.data import Dataset
    from mnist_lab.execution import SpaceCheck
    from mnist_lab.spaces import SearchSpace


def add_commands(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    add(app, "spaces", spaces_command)


@sweep_options("image_size")
def spaces_command(
    name: Annotated[str | None, typer.Argument(help="Show this space: cnn, cnn-v1.")] = None,
    space_file: Annotated[
        str | None, typer.Option(metavar="FILE.py:NAME", help="Show the space in a file.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Build every corner, train one step (takes Keras)."),
    ] = False,
    dataset: Annotated[
        str, typer.Option(help="Build for the images and classes of these data.")
    ] = "mnist",
    as_json: bool = JSON_OPTION,
    **typed: Any,
) -> None:
    """List the search spaces, or show one.

    Of one: its parameters, ranges, conditions and baseline.

    Example: mnist-lab spaces cnn --check
    """
    from mnist_lab.data import load_dataset
    from mnist_lab.settings import Settings
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
    data = load_dataset(dataset, **typed, data_folder=Settings().data_folder)
    space = get_space(wanted, colour=data.form.is_colour).shaped(data.form.shape)
    survey = run_description(wanted, builds=BUILDS)["survey"] if space.asks else None
    checked = _check(space, data) if check else None
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


def _check(space: SearchSpace, dataset: Dataset) -> SpaceCheck:
    from mnist_lab.execution import check_space, usable_cores
    from mnist_lab.training import Runtime, configure

    configure(Runtime(threads=usable_cores()))
    return check_space(space, dataset)


def _print_survey(space: SearchSpace, survey: dict[str, Any]) -> None:
    """Print the parameters that many builds of an ``AskingSpace`` asked for."""
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
