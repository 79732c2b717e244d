"""Options that commands share. Those of a sweep are made from ``SweepConfig``, stated there once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, get_type_hints

import typer

from mnist_lab.config import Option, SweepConfig

EXIT_USAGE = 64
LAST = ("gate", "force", "dry_run", "space_file", "as_json")  # in every command's help
ASSIGNMENTS = ("set", "grid", "limit")  # typed as NAME=VALUE, once a name

StudyName = Annotated[str | None, typer.Argument(help="[default: the latest study]")]
DatasetPlace = Annotated[
    str | None,
    typer.Option(help="Where the study's data lie now.  [default: they are looked for]"),
]
SpaceFile = Annotated[
    str | None,
    typer.Option(metavar="FILE.py:NAME", help="A search space in a file; it is code and is run."),
]

Command = Callable[..., None]


def add(app: typer.Typer, name: str, command: Command, *, trains: bool = False) -> None:
    """Add a command. One that ``trains`` first has TensorFlow imported in the background."""

    @functools.wraps(command)
    def begin(*arguments: Any, **options: Any) -> None:
        from mnist_lab.execution import warm_up

        if options.get("executor_") != "inline":  # which has no use for a template
            warm_up()
        command(*arguments, **options)

    app.command(name)(begin if trains else command)


def sweep_options(*names: str) -> Callable[[Command], Command]:
    """Give a command fields of ``SweepConfig`` as options: ``names``, or all of them.

    They stand where the command has ``**typed``, which holds those that were typed; ``set`` and
    ``grid`` are lists of text there.
    """
    chosen = [each for each in fields(SweepConfig) if each.metadata]
    chosen = [each for each in chosen if not names or each.name in names]
    made = [_option(each) for each in chosen]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**values: Any) -> None:
            for each in chosen:
                value = values.pop(f"{each.name}_")
                if value is not None:
                    values[each.name] = value
            command(**values)

        hints = get_type_hints(command, include_extras=True)
        own = [
            each.replace(annotation=hints[each.name])
            for each in inspect.signature(command).parameters.values()
            if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        last = [each for each in own if each.name in LAST]
        parameters = [*(each for each in own if each not in last), *made, *last]
        call.__annotations__ = {each.name: each.annotation for each in parameters}
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def _option(each: Field[Any]) -> inspect.Parameter:
    words: Option = each.metadata["option"]
    kind = list[str] if each.name in ASSIGNMENTS else _type_of(each)
    option = typer.Option(
        f"--{each.name.replace('_', '-')}",
        metavar=words.metavar or None,
        help=words.help + (f"  [default: {words.default}]" if words.default else ""),
    )
    return inspect.Parameter(
        f"{each.name}_",
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _type_of(each: Field[Any]) -> type:
    """The field's type without None; a choice of words is text, which the config checks."""
    words = str(each.type).removesuffix(" | None")
    return {"int": int, "float": float}.get(words, str)
