"""The commands and the experiment file that make a study again."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from mnist_lab.config import SweepConfig
from mnist_lab.report.study_report import StudyReport


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The commands, one a line, and the sweep as an experiment file."""

    commands: str
    toml: str


def describe_reproduction(report: StudyReport, *, confirmed: bool) -> Reproduction:
    """Return how the study is made again, by its record; defaults are left out."""
    values = _values(report)
    default = SweepConfig(space="")
    changed = {
        name: value
        for name, value in values.items()
        if name in ("trials", "study") or value != getattr(default, name)
    }
    words = ["mnist-lab", "sweep", report.record.reference]
    for name, value in changed.items():
        if name == "limit":
            for limited, most in limits_of(report).items():
                words += ["--limit", f"{limited}={most}"]
        elif name == "set":
            for parameter, kept in json.loads(report.record.fixed).items():
                words += ["--set", f"{parameter}={_write(kept)}"]
        else:
            words += [f"--{name.replace('_', '-')}", str(value)]
    name = report.record.name
    lines = [shlex.join(words), *([f"mnist-lab confirm {name}"] if confirmed else [])]
    if report.best is not None:
        lines.append(f"mnist-lab reproduce {name} {report.best.trial}")
    toml = [f"space = {json.dumps(report.record.reference)}"]
    tables = {key: value for key, value in changed.items() if isinstance(value, dict)}
    toml += [f"{key} = {json.dumps(value)}" for key, value in changed.items() if key not in tables]
    for key, table in tables.items():
        toml += ["", f"[{key}]"]
        toml += [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    return Reproduction(commands="\n".join(lines), toml="\n".join(toml))


def _write(value: object) -> str:
    """Write a value as ``--set`` takes it."""
    if isinstance(value, list):  # JSON's form of a tuple
        return str(tuple(value))
    return value if isinstance(value, str) else json.dumps(value)


def _values(report: StudyReport) -> dict[str, object]:
    """The fields of ``SweepConfig`` that a study records."""
    record, settings = report.record, report.record.settings
    return {
        "trials": len(report.trials),
        "study": record.name,
        "sampler": settings.get("sampler", "tpe"),
        "pruner": settings.get("pruner", "halving"),
        "epochs": record.epochs,
        "objective": record.objective,
        "class_weights": record.class_weights,
        "warm_start": settings.get("warm_start", "none"),
        "seed": int(settings.get("seed", 0)),
        "dataset": record.dataset_source,
        "image_size": record.image_size,
        "set": json.loads(record.fixed),
        "limit": limits_of(report),
    }


def limits_of(report: StudyReport) -> dict[str, str]:
    """Return the limits of the search, by name, as they were given."""
    settings = report.record.settings
    return {
        key.removeprefix("limit."): value
        for key, value in settings.items()
        if key.startswith("limit.")
    }
