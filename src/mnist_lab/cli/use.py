"""``evaluate``, ``predict``, ``export``, ``serve`` and ``reproduce``: the commands that use models."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_lab.cli.output import JSON_OPTION, percent, print_json, print_table
from mnist_lab.cli.run import trains

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

    from mnist_lab.models import ModelFile
    from mnist_lab.settings import Settings
    from mnist_lab.study import Ledger, TrialFacts

EXIT_DIVERGED = 1
SERVING_PORT = 5001  # beside MLflow's pages at 5000

Model = Annotated[
    str, typer.Argument(metavar="MODEL@ALIAS|MODEL/VERSION", help="mnist-cnn@champion")
]


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    for command in (evaluate, predict, export, serve, trains(reproduce)):
        app.command()(command)


def evaluate(
    target: Annotated[
        str,
        typer.Argument(metavar="MODEL@ALIAS|MODEL/VERSION|STUDY[:TRIAL]", help="What to score."),
    ],
    dataset: Annotated[
        str | None, typer.Option(help="Another data set's test images.  [default: the study's]")
    ] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Score a model on the sealed test images.

    Every opening is counted, on its run and on its versions.

    Example: mnist-lab evaluate mnist-cnn@champion
    """
    from mnist_lab.promotion import evaluate_model, evaluate_on
    from mnist_lab.settings import Settings
    from mnist_lab.study import open_study
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    client = open_client(settings)
    model = _find_model(client, target, settings)
    record = open_study(settings, model.study).record
    if dataset is None:
        result = evaluate_model(client, model, record, settings)
    else:
        result = evaluate_on(client, model, dataset, record, settings)
    evaluation = result.evaluation
    if as_json:
        facts = {"study": model.study, "trial": model.trial, "openings": result.openings}
        print_json({**facts, **evaluation.to_json()["classification_report"]})
        return
    typer.echo(
        f"Test accuracy {percent(evaluation.accuracy)}, loss {evaluation.loss:.4f} on "
        f"{evaluation.samples:,} sealed images (opening {result.openings} for this model)."
    )


def predict(
    model: Model,
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURE…", help="PNG, JPEG, …, .npy, or IDX.")
    ],
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Scale pictures only; do not cut out a digit.")
    ] = False,
    request: Annotated[
        bool, typer.Option("--request", help="Print what to send to mnist-lab serve instead.")
    ] = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """Say which digit a picture shows, with probabilities.

    Pictures have one digit each, in any size and colour, dark on light or light on dark; it is cut
    out and centred as MNIST does it. The images of .npy ((N, 28, 28) uint8) and IDX files are taken
    as they are.

    Example: mnist-lab predict mnist-cnn@champion digit.png
    """
    from mnist_lab.models import predict as classify
    from mnist_lab.models import read_pictures
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    found = list(read_pictures(pictures, as_is=as_is))
    if request:
        print_json({"inputs": [picture.pixels.tolist() for picture in found]}, indent=None)
        return
    version, predictions = classify(open_client(settings), model, found, settings)
    if as_json:
        print_json({"model": version, "predictions": [asdict(each) for each in predictions]})
        return
    columns = (
        ("picture", lambda row: row.source),
        ("digit", lambda row: str(row.label)),
        ("probability", lambda row: percent(row.probability)),
        ("0 to 9", lambda row: " ".join(f"{each:.3f}" for each in row.probabilities)),
    )
    print_table(predictions, columns, title=version)


def export(
    model: Model,
    kind: Annotated[
        str, typer.Option("--format", help="keras, h5, json+weights, saved_model or onnx.")
    ] = "keras",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write into.  [default: exports/ in the home folder]"),
    ] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write a registered model in another format, and check it.

    It is read back, and what it predicts is compared with the model's own predictions. What is needed
    to read it is printed.

    Example: mnist-lab export mnist-cnn@champion --format onnx
    """
    from mnist_lab.models import export as write
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    done = write(open_client(settings), model, kind, out or settings.exports, settings)
    if as_json:
        print_json({**asdict(done), "files": [str(file) for file in done.files]})
        return
    typer.echo(f"{done.model} as {kind}: {', '.join(map(str, done.files))}")
    typer.echo(f"Read back; probabilities differ by {done.difference:.1g} at most.")
    typer.echo(f"To read it: {', '.join(done.needs)}{_describe_needs(done.needs)}.")


def _describe_needs(needs: Sequence[str]) -> str:
    names = {need.partition(">=")[0] for need in needs}
    if "keras" in names:
        return "; Keras does not read what a newer Keras wrote"
    if "tensorflow" in names:
        return "; no Keras"
    return ", or another ONNX runtime; no Keras and no TensorFlow"


def serve(
    model: Model,
    port: Annotated[int, typer.Option(help="On this machine only.")] = SERVING_PORT,
) -> None:
    """Serve a model with MLflow's own server, on this machine only.

    Example: mnist-lab serve mnist-cnn@champion --port 5001
    """
    from mnist_lab.models import prepare, prepare_path, server_command
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    folder = prepare(open_client(settings), model, settings)
    address = f"http://127.0.0.1:{port}/invocations"
    typer.echo(f"{model} at {address} (Ctrl-C ends it). Ask it:")
    typer.echo(
        f"mnist-lab predict {model} digit.png --request | curl --data @- "
        f"--header 'Content-Type: application/json' {address}"
    )
    sys.stdout.flush()
    command = server_command(folder, port)
    prepare_path()
    os.execv(command[0], command)  # noqa: S606 - this process becomes the server


def reproduce(
    target: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|MODEL@ALIAS|MODEL/VERSION", help="What is to be trained again."
        ),
    ],
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="Of a study.  [default: its best]")
    ] = "",
    as_json: bool = JSON_OPTION,
) -> None:
    """Train a trial again from its record, and compare every epoch.

    Complete trials only. It is bit-exact, within tolerance (0.3 points of validation accuracy), or
    diverged: exit code 1.

    Example: mnist-lab reproduce mnist-cnn-v2-10ep
    """
    from mnist_lab.settings import Settings
    from mnist_lab.sweep import reproduce as train_again

    settings = Settings()
    study, found = _find_record(target, trial, settings)
    done = train_again(study, found, settings)
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(
            f"{done.study} trial {done.trial}: {done.outcome} over {done.epochs} epochs. Best "
            f"validation accuracy recorded {percent(done.recorded)}, found {percent(done.found)}."
        )
        if done.first_difference is not None:
            typer.echo(f"Epoch {done.first_difference} is the first that differs.")
        for name, (then, now) in done.environment.items():
            typer.echo(f"  {name}: {then} then, {now} now")
    if done.outcome == "diverged":
        raise typer.Exit(EXIT_DIVERGED)


def _find_record(target: str, trial: str, settings: Settings) -> tuple[Ledger, TrialFacts]:
    from mnist_lab.models import is_version
    from mnist_lab.study import open_study
    from mnist_lab.tracking.store import open_client

    if is_version(target):
        model = _find_model(open_client(settings), target, settings)
        study = open_study(settings, model.study)
        return study, study.trial(model.trial)
    study = open_study(settings, target)
    return study, study.find_trial(trial)


def _find_model(client: MlflowClient, target: str, settings: Settings) -> ModelFile:
    from mnist_lab.models import find_trial_model, find_version, find_version_model, is_version
    from mnist_lab.study import open_study

    if is_version(target):
        return find_version_model(client, find_version(client, target))
    study, _, number = target.partition(":")
    opened = open_study(settings, study)
    return find_trial_model(client, opened.find_run(opened.find_trial(number).number))
