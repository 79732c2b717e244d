"""``sweep`` and ``train``: the commands that train."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_lab.cli.options import ASSIGNMENTS, SpaceFile, add, sweep_options
from mnist_lab.cli.output import JSON_OPTION, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnist_lab.api import Pages
    from mnist_lab.config import SweepConfig
    from mnist_lab.settings import Settings
    from mnist_lab.spaces import ParamValue, SearchSpace
    from mnist_lab.study import Ledger
    from mnist_lab.sweep import SweepResult

TOP_ROWS = 5
WHEN_FAILED = "Failed trials count: correct the cause, then raise --trials or give another --study."


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    add(app, "sweep", sweep_command, trains=True)
    add(app, "train", train_command, trains=True)


@sweep_options()
def sweep_command(
    space: Annotated[
        str | None,
        typer.Argument(
            metavar="SPACE|FILE.py:NAME|FILE.toml",
            help="cnn, fnn-v1, a model in a file (which is code and is run), or an experiment.",
        ),
    ] = None,
    space_file: SpaceFile = None,
    gate: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="A gate's limits of size and latency, as --limit."),
    ] = None,
    as_json: bool = JSON_OPTION,
    **typed: Any,
) -> None:
    """Run a study, or go on with it.

    The same command again continues to the total of --trials, whatever ended the last one.

    Example: mnist-lab sweep cnn --trials 50
    """
    options = {**typed, "gate": gate}
    _launch_and_print(_make_config(space, space_file, options), as_json=as_json)


@sweep_options("set", "epochs", "seed", "dataset", "executor", "device", "study")
def train_command(
    space: Annotated[
        str | None, typer.Argument(metavar="SPACE", help="fnn, cnn, or another space.")
    ] = None,
    space_file: SpaceFile = None,
    as_json: bool = JSON_OPTION,
    **typed: Any,
) -> None:
    """Train one tracked model: the space's baseline, or with --set.

    Example: mnist-lab train cnn --set filters_1=32 --epochs 5
    """
    stem = str(space_file or space).rpartition(":")[2]
    name = f"train-{stem}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    options = {"study": name, "trials": 1, "pruner": "none", **typed}
    _launch_and_print(_make_config(space, space_file, options), as_json=as_json)


def _make_config(
    space: str | None, space_file: str | None, options: Mapping[str, Any]
) -> SweepConfig:
    from mnist_lab.config import parse_config, read_config
    from mnist_lab.errors import UsageError
    from mnist_lab.spaces import get_space

    apart = (*ASSIGNMENTS, "gate")
    given = {key: value for key, value in options.items() if key not in apart}
    assignments, grid = options.get("set", []), options.get("grid", [])
    limits = {**_limits_of(options.get("gate")), **_read_limits(options.get("limit", []))}
    if space_file is not None:
        given["space"] = space_file
    elif space is None:
        raise UsageError("Which search space?", next_step="Type for example: mnist-lab sweep cnn")
    from_file = space is not None and space.endswith(".toml")
    if not from_file:
        given.setdefault("space", space)
    config = read_config(Path(str(space)), given) if from_file else parse_config(given)
    if limits:
        config = parse_config({**vars(config), "limit": {**config.limit, **limits}})
    if not assignments and not grid:
        return config
    # Which version a name means is known when the data are loaded; a parameter may be of either.
    versions = [get_space(config.space, colour=colour) for colour in (False, True)]
    changes: dict[str, Any] = {}
    if assignments:
        pairs = [_assign(versions, each) for each in assignments]
        for name, values in pairs:
            if len(values) != 1:
                raise UsageError(
                    f"--set keeps {name} at one value, not {len(values)}.",
                    next_step="Decimals have a point. To try several: --sampler grid --grid "
                    f"{name}={','.join(map(str, values))}",
                )
        changes["set"] = {**config.set, **{name: values[0] for name, values in pairs}}
    if grid:
        changes["grid"] = {**config.grid, **dict(_assign(versions, each) for each in grid)}
    return parse_config({**vars(config), **changes})


def _read_limits(assignments: Sequence[str]) -> dict[str, str]:
    from mnist_lab.errors import UsageError

    found = {}
    for text in assignments:
        name, separator, value = text.partition("=")
        if not separator:
            raise UsageError(
                f"{text!r} is no limit.", next_step="Type for example: --limit parameters=100k"
            )
        found[name] = value
    return found


def _limits_of(gate: Path | None) -> dict[str, float]:
    """The limits that a gate's policy sets: what it would refuse anyway is not trained."""
    if gate is None:
        return {}
    from mnist_lab.config import LIMITS
    from mnist_lab.promotion import read_policy

    policy = read_policy(gate)
    return {name: float(getattr(policy, f"maximum_{name}")) for name in LIMITS}


def _assign(versions: Sequence[SearchSpace], text: str) -> tuple[str, list[ParamValue]]:
    """Read an assignment by the version that has the parameter; the sweep's own is checked later."""
    from mnist_lab.spaces import parse_assignment

    name = text.partition("=")[0]
    declaring = [each for each in versions if each.asks or name in each.distributions]
    return parse_assignment((declaring or versions)[0], text)


def _launch_and_print(config: SweepConfig, *, as_json: bool) -> None:
    from mnist_lab.api import run_sweep
    from mnist_lab.errors import InterruptedSweep
    from mnist_lab.settings import Settings

    settings = Settings()
    try:
        result, pages = run_sweep(config, settings)
    except InterruptedSweep as error:
        error.next_step = f"Go on with: {_this_command(config.study)}"
        raise
    _print_result(result, pages, settings, as_json=as_json)
    exit_as(result)


def _this_command(study: str | None) -> str:
    """Return the typed command; with the study's name, if that was made for the occasion."""
    words = ["mnist-lab", *sys.argv[1:]]
    if study is not None and words[1:2] == ["train"] and "--study" not in words:
        words += ["--study", study]
    return shlex.join(words)


def _print_result(result: SweepResult, pages: Pages, settings: Settings, *, as_json: bool) -> None:
    from mnist_lab.cli.studies import print_leaderboard
    from mnist_lab.report import leaderboard, report_pruning
    from mnist_lab.study import open_study

    study = open_study(settings, result.study)
    rows = leaderboard(study, top=TOP_ROWS)
    if as_json:
        best = result.best.number if result.best else None
        stopped = {
            "stopped": str(result.stopped or ""),
            "stop_reason": result.stopped.reason.value if result.stopped else "",
        }
        facts = {**vars(result), **stopped, **vars(pages), "best": best}
        print_json({**facts, "leaderboard": [vars(row) for row in rows]})
        return
    title = f"{result.study}: {result.finished} of {result.total} trials finished"
    print_leaderboard(rows, title=title)
    for reason, count in result.reasons.items():
        typer.echo(f"{count} failed: {reason}")
    pruning = report_pruning(study)
    if pruning is not None:
        typer.echo(f"\n{pruning}")
    print_noise(study)
    print_trouble(result, pages)
    if not result.stopped and rows:
        typer.echo("")
        typer.echo("Look closer:   mnist-lab ui")
        if pages.link:
            typer.echo(f"There:         {pages.link}")
        if pages.report:
            typer.echo(f"Report:        {pages.report}")
        typer.echo(f"Leaderboard:   mnist-lab leaderboard {result.study}")
        typer.echo(f"Confirm it:    mnist-lab confirm {result.study}")
        typer.echo(f"Promote it:    mnist-lab promote {result.study}")


def print_noise(study: Ledger) -> None:
    """Print how far the best can be told apart, and what more trials would bring."""
    from mnist_lab import report

    noise = report.measure_noise(study)
    if noise is None:
        return
    objective = study.record.objective
    differ = report.describe_difference(objective, noise.difference)
    typer.echo(f"Single runs differ by {differ} by chance. {report.describe_ties(noise)}.")
    for more in report.advise(study, noise)[:1]:
        typer.echo(
            f"{more.trials} more trials would take {report.describe_duration(more.seconds)}; the "
            f"chance that they gain {differ} or more is {more.chance:.0%}."
        )


def print_trouble(result: SweepResult, pages: Pages) -> None:
    """Print what MLflow and the report lack, and the command that writes it."""
    if result.lag.items:
        typer.echo(
            f"MLflow lacks {result.lag.items} of this sweep's records ({result.lag.why}). Nothing is "
            f"lost: the study has them. When it answers, type: mnist-lab sync {result.study}",
            err=True,
        )
    if pages.trouble:
        typer.echo(pages.trouble, err=True)


def exit_as(result: SweepResult, *, when_failed: str = WHEN_FAILED) -> None:
    """Exit with the code and the next step that a sweep which ended early asks for.

    ``when_failed`` says what to do when trials failed.
    """
    from mnist_lab.errors import DiskFullError, InterruptedSweep, MnistLabError
    from mnist_lab.study import StopReason

    kept = f"{result.finished} finished trials and the running ones' epochs are kept."
    again = f"Go on with: {_this_command(result.study)}"
    if result.signal:
        raise InterruptedSweep("Interrupted.", safe=kept, next_step=again, exit_code=result.signal)
    if result.stopped is None:
        return
    if result.stopped.reason is StopReason.DISK:
        room = f"Repair the disk, then type: {_this_command(result.study)}"
        raise DiskFullError(f"Stopped: {result.stopped}.", safe=kept, next_step=room)
    if result.stopped.reason.is_failure:
        raise MnistLabError(f"Stopped: {result.stopped}.", safe=kept, next_step=when_failed)
    typer.echo(f"Stopped: {result.stopped}. {kept} {again}", err=True)
