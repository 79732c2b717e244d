"""``sweep`` and ``train``: the commands that train."""

from __future__ import annotations

import functools
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_lab.cli.output import JSON_OPTION, print_json

if TYPE_CHECKING:
    from mnist_lab.settings import Settings
    from mnist_lab.study import SweepConfig
    from mnist_lab.sweep import SweepResult

EXIT_USAGE = 64
TOP_ROWS = 5
WHEN_FAILED = "Failed trials count: correct the cause, then raise --trials or give another --study."

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Keep a parameter at a value (repeatable)."),
]
SpaceFile = Annotated[
    str | None,
    typer.Option(metavar="FILE.py:NAME", help="A search space in a file; it is code and is run."),
]
Epochs = Annotated[int | None, typer.Option(help="Epochs of each trial, at most.  [default: 10]")]
Dataset = Annotated[
    str | None,
    typer.Option(help="mnist, fashion_mnist, an .npz, or a folder of IDX files.  [default: mnist]"),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Worker processes.  [default: one a core, at most 8, or one a GPU]"),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, gpu or gpu:0,1.  [default: GPUs where there are any]")
]
Seed = Annotated[int | None, typer.Option(help="Of sampling and training.  [default: 0]")]
Study = Annotated[str | None, typer.Option(help="The study's name; an existing one is resumed.")]


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command()(trains(sweep))
    app.command()(trains(train))


def trains(command: Callable[..., None]) -> Callable[..., None]:
    """The command, begun by having TensorFlow imported beside all that it does before it trains."""

    @functools.wraps(command)
    def begin(*arguments: Any, **options: Any) -> None:
        from mnist_lab.execution import warm_up

        warm_up()
        command(*arguments, **options)

    return begin


def sweep(
    space: Annotated[
        str | None,
        typer.Argument(
            metavar="SPACE|FILE.py:NAME|FILE.toml",
            help="cnn, fnn-v1, a model in a file (which is code and is run), or an experiment.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Finished trials in all, however often resumed.  [default: 50]"),
    ] = None,
    study: Study = None,
    sampler: Annotated[
        str | None, typer.Option(help="tpe, random, qmc, grid, cmaes or gp.  [default: tpe]")
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(help="halving, none, median, asha or hyperband.  [default: halving]"),
    ] = None,
    epochs: Epochs = None,
    workers: Workers = None,
    device: Device = None,
    workers_per_gpu: Annotated[
        int | None, typer.Option(help="Workers that share one GPU.  [default: 1]")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Begin no trial after so long.")
    ] = None,
    trial_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Fail a trial that takes longer.")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(help="Retries of a trial whose worker has crashed.  [default: 1]")
    ] = None,
    worker_memory: Annotated[
        int | None,
        typer.Option(
            metavar="MIB",
            help="A worker that holds more is ended: out_of_memory.  [default: its share]",
        ),
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option(help="Stop after so many failures in a row.  [default: 10]")
    ] = None,
    keep_models: Annotated[
        int | None, typer.Option(help="How many of the best trials log a model.  [default: 3]")
    ] = None,
    seed: Seed = None,
    dataset: Dataset = None,
    set_: Assignments = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=V1,V2", help="Values of a grid (repeatable, --sampler grid)."),
    ] = None,
    space_file: SpaceFile = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Run a study, or go on with it.

    The same command again continues to the total of --trials, whatever ended the last one.

    Example: mnist-lab sweep cnn --trials 50
    """
    options = {
        "trials": trials,
        "study": study,
        "sampler": sampler,
        "pruner": pruner,
        "epochs": epochs,
        "workers": workers,
        "device": device,
        "workers_per_gpu": workers_per_gpu,
        "timeout": timeout,
        "trial_timeout": trial_timeout,
        "retries": retries,
        "worker_memory": worker_memory,
        "max_failures": max_failures,
        "keep_models": keep_models,
        "seed": seed,
        "dataset": dataset,
    }
    config = _make_config(space, space_file, options, set_ or [], grid or [])
    _launch_and_print(config, as_json=as_json)


def train(
    space: Annotated[
        str | None, typer.Argument(metavar="SPACE", help="fnn, cnn, or another space.")
    ] = None,
    set_: Assignments = None,
    epochs: Epochs = None,
    seed: Seed = None,
    dataset: Dataset = None,
    device: Device = None,
    study: Study = None,
    space_file: SpaceFile = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Train one tracked model: the space's baseline, or with --set.

    Example: mnist-lab train cnn --set filters_1=32 --epochs 5
    """
    stem = str(space_file or space).rpartition(":")[2]
    name = study or f"train-{stem}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    options = {
        "trials": 1,
        "study": name,
        "pruner": "none",
        "epochs": epochs,
        "seed": seed,
        "dataset": dataset,
        "device": device,
    }
    config = _make_config(space, space_file, options, set_ or [], [])
    _launch_and_print(config, as_json=as_json)


def _make_config(
    space: str | None,
    space_file: str | None,
    options: Mapping[str, Any],
    assignments: list[str],
    grid: list[str],
) -> SweepConfig:
    from mnist_lab.errors import UsageError
    from mnist_lab.spaces import get_space, parse_assignment
    from mnist_lab.study import parse_config, read_config

    given = {key: value for key, value in options.items() if value is not None}
    if space_file is not None:
        given["space"] = space_file
    elif space is None:
        raise UsageError("Which search space?", next_step="Type for example: mnist-lab sweep cnn")
    from_file = space is not None and space.endswith(".toml")
    if not from_file:
        given.setdefault("space", space)
    config = read_config(Path(str(space)), given) if from_file else parse_config(given)
    if not assignments and not grid:
        return config
    declared = get_space(config.space)
    changes: dict[str, Any] = {}
    if assignments:
        pairs = [parse_assignment(declared, each) for each in assignments]
        for name, values in pairs:
            if len(values) != 1:
                raise UsageError(
                    f"--set keeps {name} at one value, not {len(values)}.",
                    next_step="Decimals have a point. To try several: --sampler grid --grid "
                    f"{name}={','.join(map(str, values))}",
                )
        changes["set"] = {**config.set, **{name: values[0] for name, values in pairs}}
    if grid:
        changes["grid"] = {**config.grid, **dict(parse_assignment(declared, each) for each in grid)}
    return parse_config({**vars(config), **changes})


def _launch_and_print(config: SweepConfig, *, as_json: bool) -> None:
    from mnist_lab.cli.live import watch
    from mnist_lab.errors import InterruptedSweep
    from mnist_lab.settings import Settings
    from mnist_lab.sweep import launch

    settings = Settings()
    _say_without_test_images(config, settings)
    with watch() as listener:
        try:
            result = launch(config, settings, listener=listener)
        except InterruptedSweep as error:
            error.next_step = f"Go on with: {_this_command(config.study)}"
            raise
    _print_result(result, settings, as_json=as_json)
    exit_as(result)


def _say_without_test_images(config: SweepConfig, settings: Settings) -> None:
    """Say now what would be found when a model is to be promoted."""
    from mnist_lab.data import has_test_images

    if not has_test_images(config.dataset, data_folder=settings.data_folder):
        typer.echo(
            f"{config.dataset} has no test images: it can be swept, and no model of it promoted. "
            "Add x_test and y_test (or the t10k files) before you promote.",
            err=True,
        )


def _this_command(study: str | None) -> str:
    """What was typed; with the study's name, if that was made for the occasion."""
    words = ["mnist-lab", *sys.argv[1:]]
    if study is not None and words[1:2] == ["train"] and "--study" not in words:
        words += ["--study", study]
    return shlex.join(words)


def _print_result(result: SweepResult, settings: Settings, *, as_json: bool) -> None:
    from mnist_lab.cli.look import print_leaderboard
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
        facts = {**vars(result), **stopped, "best": best}
        print_json({**facts, "leaderboard": [vars(row) for row in rows]})
        return
    title = f"{result.study}: {result.finished} of {result.total} trials finished"
    print_leaderboard(rows, title=title)
    for reason, count in result.reasons.items():
        typer.echo(f"{count} failed: {reason}")
    pruning = report_pruning(study)
    if pruning is not None:
        typer.echo(f"\n{pruning}")
    print_lag(result)
    if not result.stopped and rows:
        typer.echo("")
        typer.echo("Look closer:   mnist-lab ui")
        typer.echo(f"Leaderboard:   mnist-lab leaderboard {result.study}")
        typer.echo(f"Confirm it:    mnist-lab confirm {result.study}")
        typer.echo(f"Promote it:    mnist-lab promote {result.study}")


def print_lag(result: SweepResult) -> None:
    """Say what MLflow has not taken, and how it will."""
    if result.lag.items:
        typer.echo(
            f"MLflow lacks {result.lag.items} of this sweep's records ({result.lag.why}). Nothing is "
            f"lost: the study has them. When it answers, type: mnist-lab sync {result.study}",
            err=True,
        )


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
