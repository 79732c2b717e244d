"""``report``, ``explain``, ``compare`` and ``mistakes``: studies as pages, text and pictures."""

from __future__ import annotations

import csv
import io
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_lab.cli.browser import OpenPage, open_file
from mnist_lab.cli.options import DatasetPlace, StudyName, add
from mnist_lab.cli.output import JSON_OPTION, percent, print_json, print_table
from mnist_lab.cli.studies import describe_params

if TYPE_CHECKING:
    from mnist_lab.report import ImageRow, Mistakes, StudyReport, TrialComparison
    from mnist_lab.settings import Settings
    from mnist_lab.study import Ledger

MOST_ROWS = 20


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    add(app, "report", report_command)
    add(app, "explain", explain_command)
    add(app, "compare", compare_command)
    add(app, "mistakes", mistakes_command)


def report_command(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY|MODEL@ALIAS|MODEL/VERSION", help="[default: the latest study]"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file.  [default: reports/STUDY.html in the home]")
    ] = None,
    open_page: OpenPage = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write a study as one HTML file.

    Or a registered model's card. It needs nothing installed, and fetches nothing. A study's is logged
    to its run in MLflow, too; a running study may be reported.

    Example: mnist-lab report mnist-cnn-v2-10ep --open
    """
    from mnist_lab.models import is_version
    from mnist_lab.settings import Settings

    settings = Settings()
    if study is not None and is_version(study):
        file = _write_card(study, settings, out)
    else:
        file = _write_report(_open(study, settings), settings, out)
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size})
    else:
        typer.echo(f"Written: {file} ({file.stat().st_size / 1000:,.0f} kB)")
    if open_page:
        open_file(file)


def _write_report(study: Ledger, settings: Settings, out: Path | None) -> Path:
    from mnist_lab.api import write_pages
    from mnist_lab.errors import ConfigurationError

    pages = write_pages(study.name, settings)
    if not pages.report:
        raise ConfigurationError(pages.trouble)
    if pages.trouble:
        typer.echo(pages.trouble, err=True)
    file = Path(pages.report)
    return file if out is None else _write(out, file.read_text("utf-8"))


def _write_card(reference: str, settings: Settings, out: Path | None) -> Path:
    from mnist_lab.models import find_version
    from mnist_lab.promotion import read_card
    from mnist_lab.report.page import render_card
    from mnist_lab.tracking.store import open_client

    client = open_client(settings)
    version = find_version(client, reference)
    name = f"{version.name}-{version.version}"
    file = out or settings.reports / f"{name}.html"
    return _write(
        file, render_card(f"{version.name}/{version.version}", read_card(client, version))
    )


def explain_command(study: StudyName = None, as_json: bool = JSON_OPTION) -> None:
    """Say in words what was searched and found.

    And what is uncertain, and what to do next, in Markdown. The same study gives the same text.

    Example: mnist-lab explain mnist-cnn-v2-10ep
    """
    from mnist_lab import report
    from mnist_lab.api import explain_study
    from mnist_lab.settings import Settings

    settings = Settings()
    found = explain_study(_open(study, settings), settings)
    if as_json:
        print_json(_facts(found))
    else:
        typer.echo(report.explain(found), nl=False)


def _facts(found: StudyReport) -> dict[str, object]:
    """The facts of ``explain`` for programs: without pictures, and of trials the leaderboard's."""
    from dataclasses import asdict

    return {
        "study": found.record.name,
        "verdict": found.verdict,
        "state": found.state,
        "stopped": found.stopped,
        "counts": found.counts,
        "leaderboard": [asdict(row) for row in found.rows],
        "confirmation": asdict(found.confirmation) if found.confirmation else None,
        "noise": asdict(found.noise) if found.noise else None,
        "more_trials": [asdict(row) for row in found.more],
        "importances": [asdict(row) for row in found.importances],
        "pruning": asdict(found.pruning) if found.pruning else None,
        "failures": found.failures,
        "cost": asdict(found.cost),
        "mistakes": asdict(found.images) if found.images else None,
    }


def compare_command(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Its name.")],
    trials: Annotated[list[str], typer.Argument(metavar="TRIAL...", help="Two or more numbers.")],
    html: Annotated[Path | None, typer.Option(help="Write a page with the pictures.")] = None,
    dataset: DatasetPlace = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Show trials of a study side by side, and image by image.

    Of their parameters those that differ; how they stood after the last epoch that all have had; and
    which validation images only the first, or only another one, gets right.

    Example: mnist-lab compare mnist-cnn-v2-10ep 0 1 --html compare.html
    """
    from mnist_lab.api import compare_trials
    from mnist_lab.report.page import render_comparison
    from mnist_lab.settings import Settings
    from mnist_lab.study import open_study

    settings = Settings()
    found, data = compare_trials(open_study(settings, study), trials, settings, dataset)
    if html is not None:
        _write(html, render_comparison(found, data.validation if data else None))
    if as_json:
        print_json(found)
        return
    _print_comparison(found)
    if html is not None:
        typer.echo(f"Written: {html}")


def _print_comparison(found: TrialComparison) -> None:
    cells = [(name, *values) for name, values in found.cells()]
    names = ["", *(f"trial {number}" for number in found.trials)]
    columns = [(name, itemgetter(place)) for place, name in enumerate(names)]
    print_table(cells, columns, title=found.study)
    typer.echo(f"\nThe same in all: {describe_params(dict(found.same), most=len(found.same))}")
    for pair in found.pairs:
        typer.echo(
            f"Only trial {pair.first} is right on {pair.only_first} images, only trial {pair.second} "
            f"on {pair.only_second}; both are wrong on {pair.both_wrong}."
        )
        by_class = ", ".join(f"{name} {a}:{b}" for name, (a, b) in pair.by_class.items())
        if by_class:
            typer.echo(f"  By class: {by_class}")
    if not found.pairs:
        typer.echo(
            "Not image by image: these trials have left no predictions, MLflow is away, or the data "
            "are gone."
        )
    if found.told_apart is None:
        typer.echo("They have not been trained for as many epochs, so their best is no comparison.")
    elif found.told_apart:
        typer.echo("The best two differ by more than single runs do by chance.")
    else:
        again = f"To train the study's best again: mnist-lab confirm {found.study}"
        typer.echo(f"The best two cannot be told apart from single runs. {again}")


def mistakes_command(
    study: StudyName = None,
    to_csv: Annotated[
        Path | None, typer.Option("--csv", help="Write the suspected labels as a table.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the pictures.")] = None,
    open_page: OpenPage = False,
    dataset: DatasetPlace = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """List the images that good models miss.

    Validation images that all of them miss, those on which they disagree, and suspected labels.

    The models are all replicas of a confirmed study, else the best five of the search. A label is
    suspected where all of them agree on another one, and are sure of it.

    Example: mnist-lab mistakes mnist-cnn-v2-10ep --open
    """
    from mnist_lab.api import find_mistakes
    from mnist_lab.report.page import render_mistakes
    from mnist_lab.settings import Settings

    settings = Settings()
    opened = _open(study, settings)
    found, data = find_mistakes(opened, settings, dataset)
    if to_csv is not None:
        _write(to_csv, _as_csv(found.suspects))
    if open_page and html is None:
        html = settings.reports / f"{opened.name}-mistakes.html"
    if html is not None:
        _write(html, render_mistakes(found, data.validation))
    if as_json:
        print_json(found)
    else:
        _print_mistakes(found)
        for file in (to_csv, html):
            if file is not None:
                typer.echo(f"Written: {file}")
    if open_page and html is not None:
        open_file(html)


def _print_mistakes(found: Mistakes) -> None:
    columns = (
        ("image", lambda row: row.place or str(row.index)),
        ("label", lambda row: row.label),
        ("models say", lambda row: row.said),
        ("sure", lambda row: percent(row.confidence)),
        ("of the label", lambda row: percent(row.of_label)),
    )
    title = f"{found.study}: {len(found.suspects)} suspected labels"
    print_table(found.suspects[:MOST_ROWS], columns, title=title)
    if len(found.suspects) > MOST_ROWS:
        typer.echo(f"… and {len(found.suspects) - MOST_ROWS} more: --csv FILE has them all.")
    typer.echo(
        f"\nOf {found.images:,} validation images the {len(found.trials)} best models all miss "
        f"{len(found.missed_by_all)}, and disagree about {len(found.split)}."
    )


def _as_csv(rows: tuple[ImageRow, ...]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["index", "place", "label", "models_say", "agreement", "confidence", "of_label"]
    )
    writer.writerows(
        [
            row.index,
            row.place,
            row.label,
            row.said,
            f"{row.agreement:.4f}",
            f"{row.confidence:.4f}",
            f"{row.of_label:.4f}",
        ]
        for row in rows
    )
    return buffer.getvalue()


def _open(study: str | None, settings: Settings) -> Ledger:
    from mnist_lab.report import latest_study
    from mnist_lab.study import open_study

    return open_study(settings, study or latest_study(settings))


def _write(file: Path, text: str) -> Path:
    from mnist_lab.errors import ConfigurationError

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}.") from None
    return file
