"""Tables for people and JSON for programs, from the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

WIDEST = 1000
Column = tuple[str, Callable[[Any], str]]

JSON_OPTION = typer.Option(False, "--json", help="Print JSON instead of a table.")


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print ``value`` (data, a dataclass, or a list of them) as JSON on standard output."""
    typer.echo(json.dumps(_plain(value), indent=indent, default=_to_text))


def print_table(
    rows: Sequence[Any],
    columns: Sequence[Column],
    *,
    title: str = "",
    optional: Mapping[str, int] | None = None,
) -> None:
    """Print ``rows``, one column a name and a function from a row to text.

    ``optional`` columns need so many characters; a terminal that is too narrow for all of them is not
    shown the first, then the second of them.
    """
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        left = dict(optional or {})
        fixed = [each for each in columns if each[0] not in left]
        room = console.width - _width(_make_table(rows, fixed, ""))
        while left and sum(left.values()) > room:
            del left[next(iter(left))]
        shown = [each for each in columns if each in fixed or each[0] in left]
        console.print(_make_table(rows, shown, title))
        return
    # Elsewhere a fixed width, so that the lines of a pipe are not wrapped.
    pipe = Console(width=200)
    with pipe.capture() as captured:
        pipe.print(_make_table(rows, columns, title))
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _width(table: Table) -> int:
    from rich.console import Console

    return Console(width=WIDEST).measure(table).maximum


def _make_table(rows: Sequence[Any], columns: Sequence[Column], title: str) -> Table:
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for name, _ in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*(text(row) for _, text in columns))
    return table


def percent(value: float | None) -> str:
    """Format a share in [0, 1] as ``99.05%``; nothing for None."""
    return "" if value is None else f"{value:.2%}"


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _to_text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else str(value)
