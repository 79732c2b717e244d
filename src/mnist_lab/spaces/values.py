"""Values of one parameter: parsed, fitted to its distribution, described."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mnist_lab.errors import InvalidParamsError

ParamValue = bool | int | float | str | None
Params = Mapping[str, ParamValue]

if TYPE_CHECKING:
    pass


def describe_range(distribution: BaseDistribution) -> str:
    """Describe a distribution in one line: ``64 to 512 (log)``, ``relu | tanh``."""
    if isinstance(distribution, CategoricalDistribution):
        return " | ".join(str(choice) for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    step = distribution.step if distribution.step not in (None, 1) else None
    notes = [*(["log"] if distribution.log else []), *([f"step {step}"] if step else [])]
    return f"{distribution.low:g} to {distribution.high:g}" + (
        f" ({', '.join(notes)})" if notes else ""
    )


def parse_value(distribution: BaseDistribution, text: str) -> ParamValue:
    """Read ``text`` from a command line as a value of ``distribution``.

    Raises:
        InvalidParamsError: it is no value of the distribution's kind.
    """
    if isinstance(distribution, CategoricalDistribution):
        for choice in distribution.choices:
            if str(choice).lower() == text.lower():
                return choice
        raise InvalidParamsError(f"{text!r} is none of {describe_range(distribution)}.")
    try:
        return int(text) if isinstance(distribution, IntDistribution) else float(text)
    except ValueError:
        raise InvalidParamsError(f"{text!r} is not a number.") from None


def fit_value(distribution: BaseDistribution, value: ParamValue) -> ParamValue:
    """Convert ``value`` to the distribution's type: texts are read, 1 becomes 1.0, lists become tuples.

    A value that cannot be converted is returned as it is.
    """
    if isinstance(distribution, CategoricalDistribution):
        for same in (_is_same, lambda choice, given: str(choice) == str(given)):
            for choice in distribution.choices:
                if same(choice, value):
                    found: ParamValue = choice
                    return found
        return value
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if isinstance(distribution, IntDistribution) and isinstance(value, float):
        return int(value) if value.is_integer() else value
    return as_kind(distribution, value)


def _is_same(choice: Any, value: Any) -> bool:
    # A storage of JSON makes lists of tuples.
    plain = list(choice) if isinstance(choice, tuple) else choice
    given = list(value) if isinstance(value, tuple) else value
    return bool(plain == given) and type(plain) is type(given)


def read_literal(text: str) -> ParamValue:
    """Read ``text`` as the plainest value: a whole number, a number, true or false, else text."""
    for read in (int, float):
        with suppress(ValueError):
            return read(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def as_kind(distribution: BaseDistribution, value: ParamValue) -> ParamValue:
    """Return ``value`` as a float where the distribution is one of floats."""
    # TOML and people write 1 where 1.0 is meant.
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and isinstance(distribution, FloatDistribution) else value  # type: ignore[arg-type]


def contains(distribution: BaseDistribution, value: ParamValue) -> bool:
    """Return whether ``value`` is one of the distribution's, in its type, range and step."""
    if isinstance(distribution, CategoricalDistribution):
        # ``True == 1`` and ``1 == 1.0`` in Python, hence the types as well.
        return any(_is_same(choice, value) for choice in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(distribution, IntDistribution) and not isinstance(value, int):
        return False
    return distribution._contains(distribution.to_internal_repr(value))
