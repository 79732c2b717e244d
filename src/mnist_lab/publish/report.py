"""The HTML report of a study: kept in the home, and logged to the study's run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mnist_lab.data import Dataset
from mnist_lab.publish.connect import connect_mlflow
from mnist_lab.report import Reproduction, describe_reproduction, report_study, summarise
from mnist_lab.settings import Settings
from mnist_lab.study import Ledger, find_replicas

# Where ``mnist-lab ui`` serves MLflow's pages, unless it is given another port.
LOCAL_PAGES = "http://127.0.0.1:5000"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What MLflow knows of a study: its ``champion`` as MODEL/VERSION, and the ``commit`` of its code.

    Empty where there is none, or MLflow is away.
    """

    champion: str = ""
    commit: str = ""


def write_report(
    study: Ledger, settings: Settings, origin: Origin, *, dataset: Dataset | None = None
) -> Path:
    """Write the report of ``study`` below the home; return the file.

    ``dataset`` is the study's, if it is loaded already.

    Raises:
        OSError: the file cannot be written.
    """
    from mnist_lab.report.page import (
        render_study,  # templates and pictures: not for a sweep's start
    )

    report = report_study(study, settings, champion=origin.champion, dataset=dataset)
    again: Reproduction = describe_reproduction(report, confirmed=find_replicas(study) is not None)
    page = render_study(report, commands=again.commands, toml=again.toml, commit=origin.commit)
    file = settings.reports / f"{study.name}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(file)
    return file


def log_report(study: Ledger, file: Path, settings: Settings, origin: Origin) -> None:
    """Log ``file`` as the report of the study's run, under one name in every study.

    Raises:
        Exception: whatever a server, a database or a disk answers.
    """
    from mnist_lab.tracking.views import REPORT_FILE  # MLflow takes seconds to import

    tracker = connect_mlflow(settings, study.record)
    with TemporaryDirectory() as scratch:
        copy = Path(scratch) / REPORT_FILE
        copy.write_bytes(file.read_bytes())
        tracker.log_report(study.record, copy, summarise(study, origin.champion))


def look_up(study: Ledger, settings: Settings) -> Origin:
    """Ask MLflow for what it knows of the study."""
    from mnist_lab.tracking.store import open_client
    from mnist_lab.tracking.views import find_champion

    with suppress(Exception):  # whatever a server or a database answers
        client = open_client(settings)
        run = next((tracked.run for tracked in study.tracked().values()), "")
        tags = client.get_run(run).data.tags if run else {}
        return Origin(
            champion=find_champion(client, study.record),
            commit=tags.get("mlflow.source.git.commit", ""),
        )
    return Origin()


def find_link(study: Ledger, settings: Settings, *, base: str = "") -> str:
    """Return the address of the study's view in MLflow's pages; empty if MLflow has none.

    ``base`` is where the pages are served: the tracking server, or ``mnist-lab ui`` on this machine.
    """
    from mnist_lab.tracking.store import open_client
    from mnist_lab.tracking.views import find_address

    found = find_address(open_client(settings), study.record)
    server = settings.tracking_uri if not settings.tracks_locally else LOCAL_PAGES
    return f"{(base or server).rstrip('/')}/{found}" if found else ""
