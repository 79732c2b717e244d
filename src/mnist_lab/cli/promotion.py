"""``confirm``, ``promote`` and ``rollback``: the choice of the champion."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_lab.cli.options import DatasetPlace, StudyName, add, sweep_options
from mnist_lab.cli.output import JSON_OPTION, percent, print_json, print_table
from mnist_lab.cli.sweep import exit_as, print_trouble
from mnist_lab.config import LARGEST_ENSEMBLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mnist_lab.promotion import Promotion
    from mnist_lab.settings import Settings
    from mnist_lab.study import Confirmation, Design

EXIT_NOT_PROMOTED = 1


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    add(app, "confirm", confirm_command, trains=True)
    add(app, "promote", promote_command)
    add(app, "rollback", rollback_command)


Top = Annotated[
    int, typer.Option(help="So many of the best trials are trained again, half of them twice.")
]
# Of earlier versions, which trained each trial with so many seeds.
Seeds = Annotated[int | None, typer.Option(hidden=True)]


@sweep_options("workers", "device", "executor")
def confirm_command(
    study: StudyName = None,
    top: Top = 5,
    seeds: Seeds = None,
    dataset: DatasetPlace = None,
    as_json: bool = JSON_OPTION,
    **typed: Any,
) -> None:
    """Train the best trials again with fresh seeds, and choose one.

    Each training leaves out a part of the training images, and is measured on it. The better half of
    the trials is trained twice. The same command again goes on where it was stopped; what is done is
    not repeated.

    Example: mnist-lab confirm mnist-cnn-v2-10ep --top 5
    """
    from mnist_lab.report import latest_study
    from mnist_lab.settings import Settings
    from mnist_lab.study import Design

    _note_seeds(seeds)
    settings, design = Settings(), Design(top=top)
    name = study or latest_study(settings)
    confirmation = _confirm(settings, name, design, {**typed, "dataset": dataset})
    if as_json:
        print_json(confirmation)
        return
    _print_confirmation(confirmation)
    typer.echo(f"\nPromote it:    mnist-lab promote {name}")


def _note_seeds(seeds: int | None) -> None:
    if seeds is not None:
        typer.echo(
            "--seeds has no effect any more: docs/promotion.md says what is trained.", err=True
        )


def _confirm(
    settings: Settings, study: str, design: Design, typed: Mapping[str, Any]
) -> Confirmation:
    from mnist_lab.api import confirm_study
    from mnist_lab.errors import InterruptedSweep, MnistLabError

    try:
        result, confirmation, pages = confirm_study(study, settings, design, **typed)
    except InterruptedSweep as error:
        error.next_step = f"Go on with: {shlex.join(['mnist-lab', *sys.argv[1:]])}"
        raise
    if result is not None:
        print_trouble(result, pages)
        exit_as(result, when_failed="Correct the cause, and type the same command again.")
    if confirmation is None:
        raise MnistLabError(
            f"No trial of {study} could be trained again.",
            safe="Nothing was promoted.",
            next_step=f"See why they failed: mnist-lab leaderboard {study}+confirm",
        )
    return confirmation


def _print_confirmation(confirmation: Confirmation) -> None:
    from mnist_lab.config import OBJECTIVES, describe_value

    show = partial(describe_value, confirmation.objective)
    is_share = OBJECTIVES[confirmation.objective]
    columns = (
        ("trial", lambda row: str(row.trial)),
        ("mean", lambda row: show(row.mean)),
        ("95 % interval", lambda row: f"{show(row.low)} to {show(row.high)}"),
        ("by training", lambda row: " ".join(map(show, row.accuracies))),
        ("in the search", lambda row: show(row.searched)),
        ("parameters", lambda row: f"{row.parameters:,}"),
        ("seconds", lambda row: f"{row.seconds:.1f}"),
        ("", lambda row: row.said),
    )
    title = f"{confirmation.study}: trained again with fresh seeds, {confirmation.objective}"
    print_table(confirmation.rows, columns, title=title)
    finalists = [row for row in confirmation.rows if len(row.accuracies) == confirmation.seeds]
    ties = sum(row.said == "tied" for row in finalists)
    apart = (
        f"{100 * confirmation.difference:.2f} points" if is_share else show(confirmation.difference)
    )
    if len(confirmation.rows) > 1:
        typer.echo(
            "\nThe choice has the best sum of all trainings, the search's included. The mean of a "
            "dropped trial is of one part of the images only; parts are not equally hard."
        )
    if len(finalists) > 1:
        typer.echo(
            f"Means less than {apart} apart cannot be told apart: {ties or 'none'} of the others "
            f"{'is' if ties < 2 else 'are'} tied with the best."
        )
    if confirmation.failed:
        typer.echo(
            f"{confirmation.failed} trials are not ranked: a replica of theirs failed. What crashed is "
            f"trained again by: mnist-lab confirm {confirmation.study}"
        )


@sweep_options("workers", "device", "executor")
def promote_command(
    study: StudyName = None,
    top: Top = 5,
    seeds: Seeds = None,
    dataset: DatasetPlace = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml", help="What is asked.  [default: as experiments/gate.toml]"
        ),
    ] = None,
    ensemble: Annotated[
        int,
        typer.Option(
            min=1,
            max=LARGEST_ENSEMBLE,
            metavar="N",
            help=f"Promote the mean of N trainings as one model, at most {LARGEST_ENSEMBLE}.",
        ),
    ] = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Whatever the gate says; it is written down.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: bool = JSON_OPTION,
    **typed: Any,
) -> None:
    """Make a study's choice the champion, if it is better.

    The study is confirmed first. Its choice and the champion are trained in up to three rounds, each
    training without another part of the training images, and compared on what was left out. Only a
    choice that is not behind meets the sealed test images. If it is shown to be better and keeps every
    limit, it becomes champion, and the champion previous. Exit code 1 when nothing was promoted.

    With --ensemble 3 the mean of three trainings is compared, and registered as one Keras model.

    Example: mnist-lab promote mnist-cnn-v2-10ep
    """
    from mnist_lab.promotion import GatePolicy, read_policy, require_promotable
    from mnist_lab.report import latest_study
    from mnist_lab.settings import Settings
    from mnist_lab.study import Design, open_study, read_confirmation
    from mnist_lab.tracking.store import open_client

    _note_seeds(seeds)
    settings, design = Settings(), Design(top=top)
    name = study or latest_study(settings)
    policy = GatePolicy() if gate is None else read_policy(gate)
    fresh = read_confirmation(open_study(settings, name), design) is not None
    if dry_run:
        _print_plan(name, settings, design, ensemble, fresh=fresh, as_json=as_json)
        return
    asked: dict[str, Any] = {
        "design": design,
        "policy": policy,
        "members": ensemble,
        "force": force,
    }
    if not fresh:
        require_promotable(open_client(settings), name, settings, **asked)
        confirmation = _confirm(settings, name, design, {**typed, "dataset": dataset})
        if not as_json:
            _print_confirmation(confirmation)
            typer.echo("")
    promotion = _promote(name, settings, **asked, dataset=dataset, **typed)
    if as_json:
        print_json(asdict(promotion))
    else:
        _print_promotion(promotion, settings)
    if not promotion.promoted:
        raise typer.Exit(EXIT_NOT_PROMOTED)


def _promote(study: str, settings: Settings, **options: Any) -> Promotion:
    from mnist_lab.api import promote_study
    from mnist_lab.errors import InterruptedSweep

    try:
        promotion, pages = promote_study(study, settings, **options)
    except InterruptedSweep as error:
        error.safe = "What is trained is kept, and no alias was moved."
        error.next_step = f"Go on with: {shlex.join(['mnist-lab', *sys.argv[1:]])}"
        raise
    if pages.trouble:
        typer.echo(pages.trouble, err=True)
    return promotion


def _print_plan(
    study: str, settings: Settings, design: Design, members: int, *, fresh: bool, as_json: bool
) -> None:
    from mnist_lab.models import CHAMPION
    from mnist_lab.promotion import find_holder, model_name
    from mnist_lab.study import open_study, read_confirmation
    from mnist_lab.tracking.store import open_client

    opened = open_study(settings, study)
    confirmation, name = read_confirmation(opened, design), model_name(opened.record)
    champion = find_holder(open_client(settings), name, CHAMPION)
    plan = {
        "study": study,
        "model": name,
        "confirm": not fresh,
        "trial": confirmation.chosen if fresh and confirmation else None,
        "ensemble": members,
        "champion": int(champion.version) if champion else None,
    }
    if as_json:
        print_json(plan)
        return
    more = (
        "would be trained three times, or up to nine"
        if members == 1
        else f"would be an ensemble of {members}: {3 * members} trainings, less those it has"
    )
    first = (
        f"It is confirmed: trial {plan['trial']} {more}."
        if fresh
        else f"Its {design.top} best trials would be trained again, and one chosen."
    )
    against = f"version {plan['champion']}" if champion else "no champion: it would be the first"
    typer.echo(f"{study} -> {name}. {first} It would meet {against}.")
    typer.echo("Nothing was trained, registered or opened.")


def rollback_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="mnist-cnn")],
    as_json: bool = JSON_OPTION,
) -> None:
    """Make the previous champion champion again.

    The champion becomes previous.

    Example: mnist-lab rollback mnist-cnn
    """
    from mnist_lab.promotion import rollback
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    back, away = rollback(open_client(settings), settings, model)
    if as_json:
        print_json({"model": model, "champion": back, "previous": away})
        return
    typer.echo(f"{model}@champion is version {back} again; version {away} is {model}@previous.")


def _print_promotion(promotion: Promotion, settings: Settings) -> None:
    from mnist_lab.promotion import describe_accuracies, describe_judgement

    which = f"trial {promotion.trial} of {promotion.study}"
    if promotion.members > 1:
        which += f", the mean of {promotion.members} trainings"
    version = f"{promotion.name}, version {promotion.version}"
    if promotion.already:
        typer.echo(f"Nothing to do: {which} is champion already ({version}).")
        return
    decision = promotion.decision
    assert decision is not None
    judgement = decision.judgement
    validation = percent(promotion.val_accuracy)
    typer.echo(
        f"{version}: {which}, validation accuracy {validation} (mean of fresh trainings)."
        if promotion.members == 1
        else f"{version}: {which}; one training has a validation accuracy of {validation} on average."
    )
    if said := describe_accuracies(decision):
        typer.echo(said)
    for sentence in describe_judgement(judgement):
        typer.echo(sentence)
    for each in judgement.criteria:
        typer.echo(f"  {'kept' if each.passed else 'BROKEN'}: {each.text}")
    typer.echo(f"Verdict: {judgement.verdict} ({judgement.reason}).")
    if not promotion.promoted:
        typer.echo(
            f"No alias but challenger was moved. To promote it all the same: "
            f"{shlex.join(['mnist-lab', *sys.argv[1:], '--force'])}"
        )
        return
    forced = " by force" if decision.forced else ""
    typer.echo(f"{promotion.name}@champion is now version {promotion.version}{forced}.")
    if decision.champion is not None:
        typer.echo(f"Take it back:  mnist-lab rollback {promotion.name}")
    # Plain MLflow takes the store of the folder that it is used in.
    elsewhere = settings.root != Path.cwd() or settings.tracking_uri_override is not None
    store = f" with MLFLOW_TRACKING_URI={settings.tracking_uri}" if elsewhere else ""
    typer.echo(f"Use it:        mnist-lab predict {promotion.name}@champion PICTURE")
    typer.echo(
        f'In Python:     mlflow.keras.load_model("models:/{promotion.name}@champion"){store}, '
        "if it is made of Keras's own layers"
    )
