"""``models``: what is registered, why, and since when."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_lab.cli.output import JSON_OPTION, percent, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

    from mnist_lab.models import VersionRow
    from mnist_lab.promotion import AliasEvent


def add_commands(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    app.command()(models)


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|MODEL@ALIAS]", help="Its versions and history; a version's model card."
        ),
    ] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """List registered models, or show one.

    Their versions, aliases, accuracies, and openings of the test set. With MODEL, the history of its
    aliases too; with MODEL@ALIAS or MODEL/VERSION, the model card.

    Example: mnist-lab models mnist-cnn
    """
    from mnist_lab.models import is_version, list_versions
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.store import open_client

    client = open_client(Settings())
    if name is None:
        rows = list_versions(client)
        print_json(rows) if as_json else _print_versions(rows)
    elif is_version(name):
        _show_card(client, name, as_json=as_json)
    else:
        _show_model(client, name, as_json=as_json)


def _show_card(client: MlflowClient, reference: str, *, as_json: bool) -> None:
    from mnist_lab.models import find_version
    from mnist_lab.promotion import read_card

    card = read_card(client, find_version(client, reference))
    print_json({"card": card}) if as_json else typer.echo(card)


def _show_model(client: MlflowClient, name: str, *, as_json: bool) -> None:
    from mnist_lab.errors import UnknownNameError
    from mnist_lab.models import count_openings, list_versions
    from mnist_lab.promotion import read_history

    rows = list_versions(client, name)
    if not rows:
        known = sorted({row.name for row in list_versions(client)})
        raise UnknownNameError("registered model", name, known)
    history, openings = read_history(client, name), count_openings(client, name)
    if as_json:
        versions, events = [asdict(row) for row in rows], [asdict(event) for event in history]
        print_json({"versions": versions, "history": events, "test_openings": openings})
        return
    _print_versions(rows)
    typer.echo(f"\nThe sealed test images were opened {openings} times.\n")
    _print_history(history)


def _print_versions(rows: Sequence[VersionRow]) -> None:
    columns = (
        ("model", lambda row: row.name),
        ("version", lambda row: str(row.version)),
        ("aliases", lambda row: ", ".join(row.aliases)),
        ("validation", lambda row: percent(row.val_accuracy)),
        ("test", lambda row: percent(row.test_accuracy)),
        ("test openings", lambda row: str(row.test_openings)),
        ("gate", lambda row: row.verdict),
        ("study", lambda row: row.study),
        ("trial", lambda row: "" if row.trial is None else str(row.trial)),
    )
    print_table(rows, columns)


def _print_history(history: Sequence[AliasEvent]) -> None:
    columns = (
        ("when", lambda event: event.when),
        ("aliases", _aliases_of),
        ("why", lambda event: event.why),
        ("", lambda event: "" if event.done else "cut off: type the command again"),
    )
    print_table(history, columns)


def _aliases_of(event: AliasEvent) -> str:
    return ", ".join(
        f"{alias} -> {'nobody' if version is None else version}"
        for alias, version in event.aliases.items()
    )
