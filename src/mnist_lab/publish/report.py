"""The HTML report of a study: kept in the home, and logged to the study's run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mnist_lab.data import Dataset
from mnist_lab.publish.connect import connect_mlflow
from mnist_lab.report import Reproduction, describe_reproduction, report_study, summarise
from mnist_lab.settings import Settings
from mnist_lab.study import Ledger, find_replicas

# Where ``mnist-lab ui`` serves MLflow's pages, unless it is given another port.
LOCAL_PAGES = "http://127.0.0.1:5000"


def publish_report(
    study: Ledger, settings: Settings, *, tracked: bool = True, dataset: Dataset | None = None
) -> Path:
    """Write the report of ``study`` below the home, and log it with its run; return the file.

    A store that does not answer costs the copy in MLflow only. Where it is known to be away, nothing
    is ``tracked``. ``dataset`` is the study's, if it is loaded already.

    Raises:
        OSError: the file cannot be written.
    """
    from mnist_lab.report.page import (
        render_study,  # templates and pictures: not for a sweep's start
    )

    champion, commit = look_up(study, settings) if tracked else ("", "")
    report = report_study(study, settings, champion=champion, dataset=dataset)
    again: Reproduction = describe_reproduction(report, confirmed=find_replicas(study) is not None)
    page = render_study(report, commands=again.commands, toml=again.toml, commit=commit)
    file = settings.reports / f"{study.name}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(file)
    if not tracked:
        return file
    with suppress(Exception):  # whatever a server, a database or a disk answers
        _log_report(study, file, settings, champion)
    return file


def _log_report(study: Ledger, file: Path, settings: Settings, champion: str) -> None:
    """Log ``file`` as the report of the study's run, under one name in every study."""
    from mnist_lab.tracking.views import REPORT_FILE  # MLflow takes seconds to import

    tracker = connect_mlflow(settings, study.record)
    with TemporaryDirectory() as scratch:
        copy = Path(scratch) / REPORT_FILE
        copy.write_bytes(file.read_bytes())
        tracker.log_report(study.record, copy, summarise(study, champion))


def look_up(study: Ledger, settings: Settings) -> tuple[str, str]:
    """Ask MLflow for the study's champion, and the commit of its code; both empty if it is away."""
    from mnist_lab.tracking.store import open_client
    from mnist_lab.tracking.views import find_champion

    with suppress(Exception):  # whatever a server or a database answers
        client = open_client(settings)
        commit = ""
        for tracked in study.tracked().values():
            commit = client.get_run(tracked.run).data.tags.get("mlflow.source.git.commit", "")
            break
        return find_champion(client, study.record), commit
    return "", ""


def find_link(study: Ledger, settings: Settings, *, base: str = "") -> str:
    """Return the address of the study's view in MLflow's pages; empty if MLflow has none.

    ``base`` is where the pages are served: the tracking server, or ``mnist-lab ui`` on this machine.
    """
    from mnist_lab.tracking.store import open_client
    from mnist_lab.tracking.views import find_address

    found = find_address(open_client(settings), study.record)
    server = settings.tracking_uri if not settings.tracks_locally else LOCAL_PAGES
    return f"{(base or server).rstrip('/')}/{found}" if found else ""
