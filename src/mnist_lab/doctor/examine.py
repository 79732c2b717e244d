"""All checks, in an order in which each can rely on those before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mnist_lab.doctor.finding import Finding
from mnist_lab.doctor.machine import check_disk, check_folders, check_versions
from mnist_lab.doctor.models import check_models
from mnist_lab.doctor.runs import check_runs
from mnist_lab.doctor.store import check_locations, check_schema, describe_other_optuna
from mnist_lab.doctor.studies import check_studies
from mnist_lab.errors import MnistLabError, first_line
from mnist_lab.settings import Settings
from mnist_lab.study import OtherOptunaError
from mnist_lab.tracking.store import open_client


def examine(settings: Settings) -> list[Finding]:
    """Find everything that is wrong, as far as it can be seen; nothing is changed."""
    return list(_examine(settings))


def repair(findings: Sequence[Finding]) -> list[Finding]:
    """Repair the findings in their order; return those whose repair failed."""
    resisted = []
    for finding in findings:
        try:
            if finding.repair is not None:
                finding.repair()
        except Exception as error:  # the next one may be repaired all the same
            problem = f"{finding.problem}; repairing it failed: {first_line(error)}"
            resisted.append(replace(finding, problem=problem))
    return resisted


def _examine(settings: Settings) -> Iterator[Finding]:
    yield from check_versions()
    for check in (check_folders, check_schema, check_locations):
        found = list(check(settings))
        if found:  # nothing more can be read or written rightly
            yield from found
            return
    yield from check_disk(settings)
    try:
        client = open_client(settings)
        yield from check_studies(settings)
        yield from check_runs(client, settings)
        yield from check_models(client, settings)
    except OtherOptunaError as error:
        yield describe_other_optuna(error, settings)
    except MnistLabError as error:
        yield Finding(subject="storage", problem=error.problem, advice=error.next_step)
    except Exception as error:  # whatever a database or a server answers
        whole = "For the whole error, type: mnist-lab sync --debug"
        yield Finding(subject="storage", problem=first_line(error), advice=whole)
