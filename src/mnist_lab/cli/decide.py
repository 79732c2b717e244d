"""``promote``, ``models`` and ``evaluate``: the commands that open the registry."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_lab.cli.output import JSON_OPTION, percent, print_json, print_table

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mnist_lab.registry import Promotion, TestResult
    from mnist_lab.registry.models import TrialModel
    from mnist_lab.settings import Settings
    from mnist_lab.sweep import Confirmation

EXIT_NOT_PROMOTED = 1


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command()(confirm)
    app.command()(promote)
    app.command()(models)
    app.command()(evaluate)


StudyName = Annotated[str | None, typer.Argument(help="[default: the latest study]")]
Top = Annotated[int, typer.Option(help="So many of the best trials are trained again.")]
Seeds = Annotated[int, typer.Option(help="Each with so many fresh seeds, the same for all.")]
Workers = Annotated[
    int | None, typer.Option(help="Worker processes.  [default: one a core, or one a GPU]")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, gpu or gpu:0,1.  [default: GPUs where there are any]")
]


def confirm(
    study: StudyName = None,
    top: Top = 5,
    seeds: Seeds = 3,
    workers: Workers = None,
    device: Device = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Train a study's best trials again with fresh seeds, and rank them by their means.

    Trials that cannot be told apart are tied; of a tie the smallest is chosen. The same command again
    goes on where it was stopped; what is done is not repeated.

    Example: mnist-lab confirm mnist-cnn-v2-10ep --top 5 --seeds 3
    """
    from mnist_lab.report import latest_study
    from mnist_lab.settings import Settings

    settings = Settings()
    name = study or latest_study(settings)
    confirmation = _confirm(settings, name, top, seeds, workers, device)
    if as_json:
        print_json({**asdict(confirmation)})
        return
    _print_confirmation(confirmation)
    typer.echo(f"\nPromote it:    mnist-lab promote {name}")


def _confirm(
    settings: Settings, study: str, top: int, seeds: int, workers: int | None, device: str | None
) -> Confirmation:
    from mnist_lab.cli.live import watch
    from mnist_lab.cli.run import exit_as
    from mnist_lab.errors import InterruptedSweep, MnistLabError
    from mnist_lab.sweep import confirm as train_again

    with watch() as listener:
        try:
            result, confirmation = train_again(
                settings, study, top=top, seeds=seeds, workers=workers, device=device,
                listener=listener,
            )  # fmt: skip
        except InterruptedSweep as error:
            error.next_step = f"Go on with: {shlex.join(['mnist-lab', *sys.argv[1:]])}"
            raise
    exit_as(result)
    if confirmation is None:
        raise MnistLabError(
            f"No trial of {study} could be trained again {seeds} times.",
            safe="Nothing was promoted.",
            next_step=f"See why they failed: mnist-lab leaderboard {result.study}",
        )
    return confirmation


def _print_confirmation(confirmation: Confirmation) -> None:
    columns = (
        ("trial", lambda row: str(row.trial)),
        ("mean", lambda row: f"{row.mean:.2%}"),
        ("95 % interval", lambda row: f"{row.low:.2%} to {row.high:.2%}"),
        ("by seed", lambda row: " ".join(f"{each:.2%}" for each in row.accuracies)),
        ("in the search", lambda row: f"{row.searched:.2%}"),
        ("parameters", lambda row: f"{row.parameters:,}"),
        ("seconds", lambda row: f"{row.seconds:.1f}"),
        (
            "",
            lambda row: (
                "chosen" if row.trial == confirmation.chosen else "tied" if row.tied else ""
            ),
        ),
    )
    title = f"{confirmation.study}: {confirmation.seeds} fresh seeds each, validation accuracy"
    print_table(confirmation.rows, columns, title=title)
    ties = sum(row.tied for row in confirmation.rows)
    points = 100 * confirmation.difference
    if len(confirmation.rows) > 1:
        typer.echo(
            f"\nMeans less than {points:.2f} points apart cannot be told apart: {ties} tied."
        )
    if confirmation.optimism is not None:
        best = max(row.searched for row in confirmation.rows)
        typer.echo(
            f"The search's best single run showed {best:.2%}: {100 * confirmation.optimism:+.2f} "
            "points against the mean of its replicas."
        )
    if confirmation.failed:
        typer.echo(f"{confirmation.failed} replicas failed; their trials are not ranked.")


def promote(
    study: Annotated[str | None, typer.Argument(help="[default: the latest study]")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it is no better than the champion.")
    ] = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """Make a study's best model the champion, if its validation accuracy is higher.

    It is registered, scored once on the sealed test images, and given the alias champion; the
    former champion becomes previous. Exit code 1 when nothing was promoted.

    Example: mnist-lab promote mnist-cnn-v1-3ep
    """
    from mnist_lab import registry
    from mnist_lab.report import latest_study
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    name = study or latest_study(settings)
    promotion = registry.promote(open_client(settings), name, settings, force=force)
    if as_json:
        print_json(_promotion_to_json(promotion))
    else:
        _print_promotion(promotion)
    if not promotion.promoted:
        raise typer.Exit(EXIT_NOT_PROMOTED)


def models(
    name: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """List registered models: versions, aliases, accuracies, openings of the test set.

    Example: mnist-lab models mnist-cnn
    """
    from mnist_lab.registry import list_versions
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.store import open_client

    rows = list_versions(open_client(Settings()), name)
    if as_json:
        print_json(rows)
        return
    columns = (
        ("model", lambda row: row.name),
        ("version", lambda row: str(row.version)),
        ("aliases", lambda row: ", ".join(row.aliases)),
        ("validation", lambda row: percent(row.val_accuracy)),
        ("test", lambda row: percent(row.test_accuracy)),
        ("test openings", lambda row: str(row.test_openings)),
        ("study", lambda row: row.study),
        ("trial", lambda row: "" if row.trial is None else str(row.trial)),
    )
    print_table(rows, columns)


def evaluate(
    target: Annotated[
        str,
        typer.Argument(metavar="MODEL@ALIAS|MODEL/VERSION|STUDY[:TRIAL]", help="What to score."),
    ],
    as_json: bool = JSON_OPTION,
) -> None:
    """Score a model on the sealed test images. Every opening is counted on its run.

    Example: mnist-lab evaluate mnist-cnn@champion
    """
    from mnist_lab.registry import evaluate_model
    from mnist_lab.settings import Settings
    from mnist_lab.sweep import open_study
    from mnist_lab.sweep.study import read_fingerprint
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    client = open_client(settings)
    model = _find_model(client, target, settings)
    made_with = read_fingerprint(open_study(settings, model.study))
    assert made_with is not None
    result = evaluate_model(client, model, made_with, settings)
    if as_json:
        print_json(_test_to_json(result))
    else:
        _print_test(result)


def _find_model(client: MlflowClient, target: str, settings: Settings) -> TrialModel:
    from mnist_lab.registry.models import find_trial_model, find_version
    from mnist_lab.sweep import ledger, open_study
    from mnist_lab.sweep.ledger import find_trial

    if "@" in target or "/" in target:
        return find_trial_model(client, str(find_version(client, target).run_id))
    study, _, number = target.partition(":")
    opened = open_study(settings, study)
    return find_trial_model(client, ledger.find_run(opened, find_trial(opened, number).number))


def _print_promotion(promotion: Promotion) -> None:
    which = f"trial {promotion.trial} of {promotion.study}"
    accuracy = percent(promotion.val_accuracy)
    if promotion.already:
        version = f"{promotion.name}@champion (version {promotion.champion_version})"
        typer.echo(f"Nothing to do: {which} is {version} already.")
        return
    if not promotion.promoted:
        typer.echo(
            f"Not promoted: {which} has validation accuracy {accuracy}, and "
            f"{promotion.name}@champion (version {promotion.champion_version}) has "
            f"{percent(promotion.champion_accuracy)}. Nothing was written. "
            "To promote it all the same: --force"
        )
        return
    typer.echo(
        f"{promotion.name}@champion is now version {promotion.version}: {which}, "
        f"validation accuracy {accuracy}" + (" (forced)" if promotion.forced else "") + "."
    )
    if promotion.champion_version is not None:
        typer.echo(
            f"Before: version {promotion.champion_version}, "
            f"{percent(promotion.champion_accuracy)}; it is {promotion.name}@previous now."
        )
    if promotion.test is not None:
        _print_test(promotion.test)
    typer.echo(f'Use it: mlflow.keras.load_model("models:/{promotion.name}@champion")')


def _print_test(result: TestResult) -> None:
    evaluation = result.evaluation
    typer.echo(
        f"Test accuracy {percent(evaluation.accuracy)}, loss {evaluation.loss:.4f} on "
        f"{evaluation.samples:,} sealed images (opening {result.openings} for this model)."
    )


def _test_to_json(result: TestResult) -> dict[str, object]:
    return {
        "study": result.model.study,
        "trial": result.model.trial,
        "openings": result.openings,
        **result.evaluation.to_json()["classification_report"],
    }


def _promotion_to_json(promotion: Promotion) -> dict[str, object]:
    test = promotion.test
    return {
        **vars(promotion),
        "promoted": promotion.promoted,
        "test": None if test is None else _test_to_json(test),
    }
