"""``sync``, ``doctor`` and ``ui``: MLflow kept in line, and opened."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_lab.cli.browser import OpenPage, open_when_served
from mnist_lab.cli.options import StudyName, add
from mnist_lab.cli.output import JSON_OPTION, print_json, print_table

if TYPE_CHECKING:
    from mnist_lab.doctor import Finding
    from mnist_lab.publish import SyncRow
    from mnist_lab.settings import Settings

DEFAULT_PORT = 5000
EXIT_SERVICE = 69
MOST_ROUNDS = 3


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    add(app, "sync", sync_command)
    add(app, "doctor", doctor_command)
    add(app, "ui", ui_command)


def sync_command(
    study: Annotated[str | None, typer.Argument(help="[default: every study]")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write the records that MLflow lacks of the studies.

    Correct records are left. Safe at any time, and done by the next sweep of a study anyhow. Needed
    after MLflow was away, or a sweep was killed.

    Example: mnist-lab sync
    """
    from mnist_lab.api.watch import count_up
    from mnist_lab.publish import sync
    from mnist_lab.settings import Settings

    with count_up() as listener:
        rows = sync(Settings(), study, listener=listener)
    _print_sync(rows, as_json=as_json)
    if any(row.failed for row in rows):
        raise typer.Exit(EXIT_SERVICE)


def _print_sync(rows: list[SyncRow], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    columns = (
        ("study", lambda row: row.study),
        ("trials", lambda row: str(row.trials)),
        ("written", lambda row: str(row.written)),
        ("models", lambda row: str(row.models)),
        ("", lambda row: row.note),
    )
    print_table(rows, columns)


def doctor_command(
    repairs: Annotated[
        bool, typer.Option("--repair", help="Do what each finding asks for.")
    ] = False,
    executor: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Look at a Ray cluster instead: its nodes."),
    ] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Find problems, and repair them with --repair.

    It compares studies, MLflow, checkpoints, models, versions and folders. Exit code 1 if anything is
    wrong.

    Example: mnist-lab doctor --repair
    """
    from mnist_lab.doctor import examine
    from mnist_lab.settings import Settings

    settings = Settings()
    if executor is not None:
        _survey(executor, settings, as_json=as_json)
        return
    findings = examine(settings)
    if repairs:
        findings = _repair_all(findings, settings)
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    elif findings:
        columns = (
            ("where", lambda row: row.subject),
            ("what is wrong", lambda row: row.problem),
            ("repair", lambda row: row.advice),
        )
        print_table(findings, columns)
    else:
        typer.echo("Nothing is wrong.")
    if findings:
        raise typer.Exit(1)


def _survey(address: str, settings: Settings, *, as_json: bool) -> None:
    """Print the nodes of a cluster; exit code 1 if one of them cannot train."""
    from mnist_lab.execution import survey_cluster

    nodes = survey_cluster(address, settings.work / "ray-survey.log")
    if as_json:
        print_json(nodes)
    else:
        columns = (
            ("node", lambda row: row.host),
            ("address", lambda row: row.address),
            ("CPUs", lambda row: f"{row.cpus:g}"),
            ("GPUs", lambda row: f"{row.gpus:g}"),
            ("its GPUs", lambda row: ", ".join(row.devices) or "none"),
            ("free memory", lambda row: f"{row.memory / 2**30:.1f} GiB"),
            ("trials at once", lambda row: str(row.slots)),
        )
        print_table(
            nodes, columns, title=f"{len(nodes)} node{'s' * (len(nodes) != 1)} at {address}"
        )
        for node in nodes:
            if node.problem:
                typer.echo(f"{node.host} ({node.address}): {node.problem}", err=True)
    if any(node.problem for node in nodes):
        raise typer.Exit(1)


def _repair_all(findings: list[Finding], settings: Settings) -> list[Finding]:
    """Repair until nothing is left that can be: one repair may show the next finding behind it."""
    from mnist_lab.doctor import examine, repair

    for _ in range(MOST_ROUNDS):
        resisted = repair(findings)
        findings = resisted or examine(settings)
        if resisted or not any(finding.repair for finding in findings):
            break
    return findings


def ui_command(
    study: StudyName = None,
    port: Annotated[int, typer.Option(help="On this machine only.")] = DEFAULT_PORT,
    open_page: OpenPage = False,
) -> None:
    """Serve MLflow's pages on the home folder's runs.

    On this machine only. Runs that a killed sweep left open are closed first. The address of the
    study's view is printed: its trials, best first, with charts.

    Example: mnist-lab ui --port 5002
    """
    from mnist_lab.publish import sync
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.server import server_command, server_environment
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    open_client(settings)
    with suppress(Exception):  # the pages open all the same
        sync(settings)  # or runs of a sweep that was killed would say RUNNING
    if not settings.tracks_locally:
        typer.echo(f"The tracking server is already there: {settings.tracking_uri}")
        _print_link(study, settings, "", open_page=open_page)
        return
    address = f"http://127.0.0.1:{port}"
    typer.echo(f"MLflow shows the runs of {settings.root} at {address} (Ctrl-C ends it)")
    _print_link(study, settings, address, open_page=open_page)
    sys.stdout.flush()
    os.chdir(settings.root)  # where the server may write what its clients send
    os.execve(  # noqa: S606 - this process becomes the server, so that Ctrl-C is its own
        sys.executable, server_command(settings, port), server_environment()
    )


def _print_link(study: str | None, settings: Settings, base: str, *, open_page: bool) -> None:
    """Print the address of a study's view; without a study that MLflow has, nothing."""
    from mnist_lab.errors import UnknownNameError
    from mnist_lab.publish import find_link
    from mnist_lab.report import latest_study
    from mnist_lab.study import open_study

    try:
        opened = open_study(settings, study or latest_study(settings))
    except UnknownNameError:
        if study is not None:
            raise
        return
    link = find_link(opened, settings, base=base)
    if link:
        typer.echo(f"Study {opened.name}: {link}")
    if link and open_page:
        open_when_served(link)
