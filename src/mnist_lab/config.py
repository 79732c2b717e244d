"""``SweepConfig``: the settings of a sweep, from a command line, a TOML file, or code."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from mnist_lab.errors import ConfigurationError

T = TypeVar("T")

VAL_ACCURACY = "val_accuracy"
# What a sweep can optimise, and whether more of it is better.
OBJECTIVES = {
    VAL_ACCURACY: True,
    "val_loss": False,
    "val_f1_macro": True,
    "val_auroc_macro": True,
    "val_balanced_accuracy": True,
}

# What the gate lets a model cost at most, unless a policy says otherwise: a count, bytes, milliseconds.
MAXIMUM_PARAMETERS, MAXIMUM_FILE_SIZE, MAXIMUM_LATENCY = 10_000_000, 100_000_000, 100.0

LARGEST_ENSEMBLE = 9  # trainings whose mean may be promoted as one model

# What a search may limit, and the units of its values, by how much of the first they are.
LIMITS: Mapping[str, Mapping[str, float]] = {
    "parameters": {"": 1, "k": 1e3, "M": 1e6},
    "file_size": {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "latency": {"": 1, "ms": 1, "us": 1e-3, "s": 1e3},
}

_LEAST = {
    **dict.fromkeys(("trials", "epochs", "max_failures", "workers_per_gpu", "worker_memory"), 1),
    **dict.fromkeys(("keep_models", "retries", "seed"), 0),
}


def is_possible(objective: str, value: float | None) -> bool:
    """Return whether the objective can have the value: shares lie in [0, 1], losses are finite."""
    if value is None or not math.isfinite(value):
        return False
    return not OBJECTIVES[objective] or 0.0 <= value <= 1.0


def describe_value(objective: str, value: float | None) -> str:
    """Return a value of an objective as it is shown: shares in percent, losses as numbers."""
    if value is None:
        return ""
    return f"{value:.2%}" if OBJECTIVES[objective] else f"{value:.4f}"


@dataclass(frozen=True)
class Option:
    """The ``--help`` text of a field; ``default`` is in words, empty for none."""

    help: str
    metavar: str
    default: str


def _setting(default: Any, help_: str, *, metavar: str = "", said: str | None = None) -> Any:
    """A field with the words that ``--help`` and the docs say of it.

    ``said`` is how the default is put into words, if not by itself; empty for not at all.
    """
    option = Option(help_, metavar, str(default) if said is None else said)
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={"option": option})
    return field(default=default, metadata={"option": option})


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """One sweep. Each field is an option of ``mnist-lab sweep`` and a key of an experiment file.

    Not on the command line: ``space``, a reference as ``get_space`` takes it, which is the argument;
    ``checkpoints``: without them an interrupted trial begins again; and ``keep_predictions``: without
    them trials are not compared image by image.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": False}  # noqa: RUF012

    space: str
    trials: int = _setting(50, "Finished trials in all, however often resumed.")
    study: str | None = _setting(None, "The study's name; an existing one is resumed.", said="")
    sampler: str = _setting("tpe", "tpe, random, qmc, grid, cmaes or gp.")
    pruner: str = _setting("halving", "halving, none, median, asha or hyperband.")
    epochs: int = _setting(10, "Epochs of each trial, at most.")
    objective: str = _setting(
        VAL_ACCURACY, f"What is optimised: {', '.join(OBJECTIVES)}.", said="val_accuracy"
    )
    class_weights: Literal["none", "balanced"] = _setting(
        "none", "balanced: each epoch draws all classes equally often."
    )
    executor: str = _setting(
        "local",
        "local: worker processes. inline: this process, one trial at a time. ray, HOST:PORT or "
        "ray://HOST:PORT: the machines of a Ray cluster.",
        metavar="NAME|ADDRESS",
    )
    workers: int | None = _setting(
        None, "Worker processes.", said="one a core, at most 8, or one a GPU"
    )
    device: str | None = _setting(None, "cpu, gpu or gpu:0,1.", said="GPUs where there are any")
    workers_per_gpu: int = _setting(1, "Workers that share one GPU.")
    timeout: float | None = _setting(
        None, "Begin no trial after so long.", metavar="SECONDS", said=""
    )
    trial_timeout: float | None = _setting(
        None, "Fail a trial that takes longer.", metavar="SECONDS", said=""
    )
    retries: int = _setting(1, "Retries of a trial whose worker has crashed.")
    worker_memory: int | None = _setting(
        None, "A worker that holds more is ended: out_of_memory.", metavar="MIB", said="its share"
    )
    max_failures: int = _setting(10, "Stop after so many failures in a row.")
    keep_models: int = _setting(3, "How many of the best trials log a model.")
    warm_start: str = _setting(
        "none",
        "Try the best points of an earlier study of the space, behind its own: its name, or auto.",
        metavar="STUDY|auto|none",
    )
    seed: int = _setting(0, "Of sampling and training.")
    dataset: str = _setting("mnist", "A name or a path: see mnist-lab data --help.")
    image_size: int | None = _setting(
        None,
        "Side that pictures are resized to.",
        metavar="PIXELS",
        said="their common size, or 32",
    )
    most_duplicates: float = _setting(
        0.01, "Refuse data with a larger share of copies between parts."
    )
    set: Mapping[str, bool | int | float | str] = _setting(
        {}, "Keep a parameter at a value (repeatable).", metavar="NAME=VALUE", said=""
    )
    grid: Mapping[str, list[bool | int | float | str]] = _setting(
        {}, "Values of a grid (repeatable, --sampler grid).", metavar="NAME=V1,V2", said=""
    )
    limit: Mapping[str, int | float | str] = _setting(
        {},
        "Refuse models beyond it before they are trained (repeatable): parameters=100k, latency=2ms, "
        "file_size=1MB.",
        metavar="NAME=VALUE",
        said="",
    )
    checkpoints: bool = True
    keep_predictions: bool = True

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise ConfigurationError(f"{name} must be at least {least}, not {value}.")
        parse_limits(self.limit)
        if self.objective not in OBJECTIVES:
            raise ConfigurationError(
                f"There is no objective {self.objective!r}.",
                next_step=f"Known ones: {', '.join(OBJECTIVES)}.",
            )
        if self.image_size is not None and not 4 <= self.image_size <= 224:
            raise ConfigurationError("image_size must be 4 to 224 pixels.")
        if self.trial_timeout is not None and self.trial_timeout <= 0:
            raise ConfigurationError("trial_timeout must be more than 0.")
        if self.executor == "inline" and (self.workers or 1) > 1:
            raise ConfigurationError(
                "The executor inline runs one trial at a time: leave workers out."
            )


def parse_limits(limits: Mapping[str, int | float | str]) -> dict[str, float]:
    """Return limits as numbers: of parameters, bytes of the file, milliseconds an image.

    Raises:
        ConfigurationError: a limit that there is not, or a value that is none of it.
    """
    found = {}
    for name, value in limits.items():
        if name not in LIMITS:
            raise ConfigurationError(
                f"There is no limit {name!r}.", next_step=f"Known ones: {', '.join(LIMITS)}."
            )
        number, unit = re.fullmatch(r"\s*([\d.eE+-]*\d)\s*([A-Za-z]*)\s*|.*", str(value)).groups()  # type: ignore[union-attr]
        units = LIMITS[name]
        try:
            found[name] = float(number) * units[unit]
        except (TypeError, ValueError, KeyError):
            known = ", ".join(f"{name}=2{each}" for each in units)
            raise ConfigurationError(
                f"{value!r} is no limit of {name}.", next_step=f"For example: {known}."
            ) from None
        if found[name] <= 0:
            raise ConfigurationError(f"A limit must be more than 0, not {name}={value}.")
    return found


def parse_config(values: Mapping[str, Any]) -> SweepConfig:
    """Check ``values`` and make a config of them; raises as ``parse_as``."""
    return parse_as(SweepConfig, values)


def read_config(file: Path, overrides: Mapping[str, Any]) -> SweepConfig:
    """Read an experiment file; ``overrides`` (a command line's options) win over its keys.

    Raises:
        ConfigurationError: as ``read_toml``.
    """
    return read_toml(SweepConfig, file, overrides)


def read_toml(kind: type[T], file: Path, overrides: Mapping[str, Any] | None = None) -> T:
    """Read a TOML file into a dataclass; ``overrides`` win over its keys.

    Raises:
        ConfigurationError: the file is not there or is no TOML; or as ``parse_as``.
    """
    try:
        text = file.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is no TOML: {error}.") from None
    return parse_as(kind, {**values, **(overrides or {})}, origin=str(file), text=text)


def parse_as(kind: type[T], values: Mapping[str, Any], *, origin: str = "", text: str = "") -> T:
    """Check ``values`` by the types of the dataclass ``kind``, and make one.

    Args:
        kind: a dataclass; pydantic's annotations are honoured.
        values: keys and values as TOML gives them.
        origin: the file's name, for messages.
        text: the file's content, to name the line of a mistake.

    Raises:
        ConfigurationError: an unknown key (the nearest is offered), or a value of another type.
    """
    from pydantic import (  # 0.2 s to import: ``--help`` needs none of it
        TypeAdapter,
        ValidationError,
    )

    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ConfigurationError(
                f"{_place(origin, text, key)}unknown key {key!r}. Did you mean {near!r}?",
                next_step=f"Known keys: {', '.join(known)}.",
            )
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise ConfigurationError(f"{_place(origin, text, key)}{key}: {first['msg']}.") from None


def _place(origin: str, text: str, key: str) -> str:
    if not origin:
        return ""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(rf"\s*\[?\s*[\"']?{re.escape(key)}\b", line):
            return f"{origin}, line {number}: "
    return f"{origin}: "
