"""All checks in an order in which each can rely on those before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mnist_lab.doctor.finding import Finding
from mnist_lab.doctor.machine import check_folders, check_versions
from mnist_lab.doctor.models import check_models
from mnist_lab.doctor.runs import check_runs
from mnist_lab.doctor.store import check_locations, check_schema
from mnist_lab.doctor.studies import check_studies
from mnist_lab.errors import MnistLabError
from mnist_lab.settings import Settings
from mnist_lab.tracking.store import open_client


def examine(settings: Settings) -> list[Finding]:
    """Everything that is wrong, as far as it can be seen; writes nothing."""
    return list(_examine(settings))


def treat(findings: Sequence[Finding]) -> None:
    """Repair what can be repaired, in the order in which it was found."""
    for finding in findings:
        if finding.repair is not None:
            finding.repair()


def _examine(settings: Settings) -> Iterator[Finding]:
    yield from check_versions()
    yield from check_folders(settings)
    unfit = list(check_schema(settings))
    if unfit:  # nothing more can be read
        yield from unfit
        return
    yield from check_locations(settings)
    try:
        client = open_client(settings)
        yield from check_studies(settings)
        yield from check_runs(client, settings)
        yield from check_models(client)
    except MnistLabError as error:
        yield Finding(subject="storage", problem=error.problem, advice=error.next_step)
