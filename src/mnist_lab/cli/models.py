"""``models``, ``evaluate``, ``predict``, ``export`` and ``serve``: registered models and their use."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_lab.cli.options import add
from mnist_lab.cli.output import JSON_OPTION, percent, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

    from mnist_lab.data import ImageForm
    from mnist_lab.models import ModelFile, Prediction, VersionRow
    from mnist_lab.promotion import AliasEvent, Challenge
    from mnist_lab.settings import Settings


SURE = 0.5  # less than this probability of the best class is called unsure
SERVING_PORT = 5001  # beside MLflow's pages at 5000

Model = Annotated[
    str, typer.Argument(metavar="MODEL@ALIAS|MODEL/VERSION", help="mnist-cnn@champion")
]


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    add(app, "models", models_command)
    add(app, "evaluate", evaluate_command)
    add(app, "predict", predict_command)
    add(app, "export", export_command)
    add(app, "serve", serve_command)


def models_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|MODEL@ALIAS]", help="Its versions and history; a version's model card."
        ),
    ] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """List registered models, or show one.

    Their versions, aliases and accuracies. With MODEL, its challenges, the history of its aliases and
    how often the test images were opened; with MODEL@ALIAS or MODEL/VERSION, the model card.

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
    from mnist_lab.models import list_versions
    from mnist_lab.promotion import count_openings_for, read_all_challenges, read_history

    rows = list_versions(client, name)
    if not rows:
        known = sorted({row.name for row in list_versions(client)})
        raise UnknownNameError("registered model", name, known)
    history, openings = read_history(client, name), count_openings_for(client, name)
    challenges = read_all_challenges(client, name)
    if as_json:
        print_json(
            {
                "versions": [asdict(row) for row in rows],
                "challenges": [{**asdict(each), "level": each.test.level} for each in challenges],
                "history": [asdict(event) for event in history],
                "test_openings": openings,
            }
        )
        return
    _print_versions(rows)
    typer.echo(f"\nOpenings of their sealed test images, for whichever model: {openings}.\n")
    _print_challenges(challenges)
    _print_history(history)


def _print_versions(rows: Sequence[VersionRow]) -> None:
    columns = (
        ("model", lambda row: row.name),
        ("version", lambda row: str(row.version)),
        ("aliases", lambda row: ", ".join(row.aliases)),
        ("validation", lambda row: percent(row.val_accuracy)),
        ("test", lambda row: percent(row.test_accuracy)),
        ("gate", lambda row: row.verdict),
        ("study", lambda row: row.study),
        ("trial", lambda row: "" if row.trial is None else f"{row.trial}{_mean_of(row.members)}"),
    )
    print_table(rows, columns)


def _mean_of(members: int) -> str:
    return "" if members == 1 else f", mean of {members}"


def _print_challenges(challenges: Sequence[Challenge]) -> None:
    if not challenges:
        return
    columns = (
        ("challenge", lambda each: str(each.number)),
        ("when", lambda each: each.when),
        ("by", lambda each: f"{each.by.study}:{each.by.trial}{_mean_of(each.by.members)}"),
        ("champion", lambda each: str(each.by.champion)),
        ("level", lambda each: f"{each.test.level:.2g}"),
        ("verdict", lambda each: each.verdict or "interrupted: type the command again"),
    )
    print_table(challenges, columns)
    typer.echo("")


def _print_history(history: Sequence[AliasEvent]) -> None:
    columns = (
        ("when", lambda event: event.when),
        ("aliases", _aliases_of),
        ("why", lambda event: event.why),
        ("", lambda event: "" if event.done else "interrupted: type the command again"),
    )
    print_table(history, columns)


def _aliases_of(event: AliasEvent) -> str:
    return ", ".join(
        f"{alias} -> {'none' if version is None else version}"
        for alias, version in event.aliases.items()
    )


def evaluate_command(
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
    model = find_model(client, target, settings)
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
        f"{evaluation.samples:,} sealed images (opening {result.openings} of these images)."
    )


def predict_command(
    model: Model,
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURE…", help="PNG, JPEG, …, .npy, or IDX.")
    ],
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Resize pictures only; do not cut out a digit.")
    ] = False,
    request: Annotated[
        bool, typer.Option("--request", help="Print what to send to mnist-lab serve instead.")
    ] = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """Say which class a picture is of, and how sure the model is.

    A picture of any size and colour is prepared as the model's data set was: resized in proportion and
    padded. For MNIST's digits the one digit is cut out, dark on light or light on dark, and centred.
    The images of .npy and IDX files are taken as they are.

    Example: mnist-lab predict mnist-cnn@champion picture.png
    """
    from mnist_lab.models import encode_request, predict
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    client = open_client(settings)
    if request:
        print_json(encode_request(client, model, pictures, as_is=as_is), indent=None)
        return
    version, images, predictions = predict(client, model, pictures, settings, as_is=as_is)
    if as_json:
        classes = list(images.class_names)
        rows = [asdict(each) for each in predictions]
        print_json({"model": version, "classes": classes, "predictions": rows})
        return
    columns = (
        ("picture", lambda row: row.source),
        ("class", lambda row: row.name),
        ("probability", lambda row: percent(row.probability)),
        ("next", lambda row: _describe_next(row, images)),
        ("", lambda row: "; ".join(filter(None, [_unsure(row), row.unlike]))),
    )
    print_table(predictions, columns, title=version)


def _describe_next(row: Prediction, images: ImageForm) -> str:
    """Return the two classes after the first, with their probabilities."""
    order = sorted(range(len(row.probabilities)), key=lambda label: -row.probabilities[label])
    return ", ".join(
        f"{images.class_names[label]} {row.probabilities[label]:.3f}" for label in order[1:3]
    )


def _unsure(row: Prediction) -> str:
    return "unsure" if row.probability < SURE else ""


def export_command(
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
    from mnist_lab.models import export
    from mnist_lab.settings import Settings
    from mnist_lab.tracking.store import open_client

    settings = Settings()
    done = export(open_client(settings), model, kind, out or settings.exports, settings)
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


def serve_command(
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
        f"mnist-lab predict {model} picture.png --request | curl --data @- "
        f"--header 'Content-Type: application/json' {address}"
    )
    sys.stdout.flush()
    command = server_command(folder, port)
    prepare_path()
    os.execv(command[0], command)  # noqa: S606 - this process becomes the server


def find_model(client: MlflowClient, target: str, settings: Settings) -> ModelFile:
    """Find the model that a version, an alias or a trial names."""
    from mnist_lab.models import find_trial_model, find_version, find_version_model, is_version
    from mnist_lab.study import open_study

    if is_version(target):
        return find_version_model(client, find_version(client, target))
    study, _, number = target.partition(":")
    opened = open_study(settings, study)
    return find_trial_model(client, opened.find_run(opened.find_trial(number).number))
