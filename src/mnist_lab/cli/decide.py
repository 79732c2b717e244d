"""``promote``, ``models`` and ``evaluate``: the commands that open the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mnist_lab.cli.output import JSON_OPTION, percent, print_json, print_table

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mnist_lab.registry import Promotion, TestResult
    from mnist_lab.registry.models import TrialModel
    from mnist_lab.settings import Settings

EXIT_NOT_PROMOTED = 1


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command()(promote)
    app.command()(models)
    app.command()(evaluate)


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
