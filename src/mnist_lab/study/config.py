"""``SweepConfig``: all that a sweep needs to know, from a command line, a TOML file, or code."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mnist_lab.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """One sweep. In TOML every field is a key of the same name.

    Attributes:
        space: ``cnn``, ``cnn-v1`` or ``path/to/file.py:name``.
        trials: how many finished trials the study shall have in all, however often it is resumed.
        study: its name; ``<dataset>-<space>-<epochs>ep`` unless given.
        sampler: a name of ``strategies.SAMPLERS``.
        pruner: a name of ``strategies.PRUNERS``.
        epochs: of each trial, at most.
        workers: processes; None lets the machine decide.
        device: ``cpu``, ``gpu``, ``gpu:0,1``; None takes GPUs where there are any.
        workers_per_gpu: how many share one GPU.
        timeout: seconds after which no further trial is begun; None for never.
        trial_timeout: seconds after which an attempt at a trial is ended, and the trial fails.
        retries: how often a trial goes on after its worker has crashed.
        worker_memory: MiB that a worker may hold; None gives each its share of the machine.
        seed: of the sampler and, with the trial's number, of each training.
        dataset: a name or a path, as ``load_dataset`` takes it.
        keep_models: how many of the best trials get a logged model.
        max_failures: the sweep stops after so many failed trials in a row.
        checkpoints: written after every epoch; without them an interrupted trial begins again.
        set: parameters that every trial keeps at the given value.
        grid: for the sampler ``grid``, the values to try of each parameter.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=False)

    space: str
    trials: int = 50
    study: str | None = None
    sampler: str = "tpe"
    pruner: str = "halving"
    epochs: int = 10
    workers: int | None = None
    device: str | None = None
    workers_per_gpu: int = 1
    timeout: float | None = None
    trial_timeout: float | None = None
    retries: int = 1
    worker_memory: int | None = None
    seed: int = 0
    dataset: str = "mnist"
    keep_models: int = 3
    max_failures: int = 10
    checkpoints: bool = True
    set: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    grid: Mapping[str, list[bool | int | float | str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("trials", "epochs", "max_failures", "workers_per_gpu"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("keep_models", "retries", "seed"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} must not be negative.")
        for name in ("trial_timeout", "worker_memory"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ConfigurationError(f"{name} must be more than 0.")


def parse_config(values: Mapping[str, Any], *, origin: str = "", text: str = "") -> SweepConfig:
    """Check ``values`` and make a config of them.

    Args:
        values: keys and values as TOML gives them.
        origin: the file's name, for messages.
        text: the file's content, to name the line of a mistake.

    Raises:
        ConfigurationError: an unknown key (the nearest is offered), or a value of another type.
    """
    known = [each.name for each in fields(SweepConfig)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ConfigurationError(
                f"{_place(origin, text, key)}unknown key {key!r}. Did you mean {near!r}?",
                next_step=f"Known keys: {', '.join(known)}.",
            )
    try:
        return TypeAdapter(SweepConfig).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise ConfigurationError(f"{_place(origin, text, key)}{key}: {first['msg']}.") from None


def read_config(file: Path, overrides: Mapping[str, Any]) -> SweepConfig:
    """Read an experiment file; ``overrides`` (a command line's options) win over its keys.

    Raises:
        ConfigurationError: as ``parse_config``, or the file is not there or is no TOML.
    """
    try:
        text = file.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is no TOML: {error}.") from None
    return parse_config({**values, **overrides}, origin=str(file), text=text)


def _place(origin: str, text: str, key: str) -> str:
    if not origin:
        return ""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(rf"\s*\[?\s*[\"']?{re.escape(key)}\b", line):
            return f"{origin}, line {number}: "
    return f"{origin}: "
