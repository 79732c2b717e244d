"""The gate that decides, from measurements alone, whether a challenger replaces the champion.

Numbers in, a decision with its reasons out.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from mnist_lab.config import MAXIMUM_FILE_SIZE, MAXIMUM_LATENCY, MAXIMUM_PARAMETERS, read_toml
from mnist_lab.errors import ConfigurationError
from mnist_lab.promotion.evidence import Comparison, Difference, is_not_worse

Share = Annotated[float, Field(ge=0, le=1)]
GateVerdict = Literal["promote", "tie", "reject"]
SMALLER = 0.8  # of the champion's parameters or latency, at most, for a challenger to be smaller


@dataclass(frozen=True, kw_only=True)
class GatePolicy:
    """The limits for a challenger; ``experiments/gate.toml`` explains every key."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    significance: Annotated[float, Field(gt=0, le=1)] = 0.05
    minimum_gain: Share = 0.0
    margin: Share = 0.0
    minimum_accuracy: Share = 0.9
    maximum_recall_loss: Share = 0.01
    maximum_calibration_error: Share = 0.25
    maximum_parameters: Annotated[int, Field(gt=0)] = MAXIMUM_PARAMETERS
    maximum_file_size: Annotated[int, Field(gt=0)] = MAXIMUM_FILE_SIZE
    maximum_latency: Annotated[float, Field(gt=0)] = MAXIMUM_LATENCY


def read_policy(file: Path) -> GatePolicy:
    """Read a policy file; raises as ``read_toml``, and for a key of earlier versions."""
    with suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        if "test" in tomllib.loads(file.read_text("utf-8")):
            raise ConfigurationError(
                f"{file}: there is one test since this version, and 'test' cannot choose it.",
                safe="Nothing was trained or opened.",
                next_step="Delete the line; docs/promotion.md describes the test.",
            )
    return read_toml(GatePolicy, file)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a model costs: ``file_size`` in bytes, ``latency`` in milliseconds for one image."""

    parameters: int
    file_size: int
    latency: float

    def is_smaller_than(self, other: Costs) -> bool:
        """Return whether it costs at most a share ``SMALLER``; an unknown latency is no measure."""
        is_faster = math.isfinite(other.latency) and self.latency <= SMALLER * other.latency
        return self.parameters <= SMALLER * other.parameters or is_faster


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One limit of the gate: ``value`` against ``limit``, and in words."""

    name: str
    passed: bool
    value: float
    limit: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Test:
    """The ``challenge``-th test of a registered model on the same sealed images, at ``level``.

    ``significance`` is what the level was made of; a policy may lower it, not raise it.
    """

    __test__ = False  # pytest would take the class for a test by its name

    challenge: int
    level: float
    significance: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The gate's verdict and its reasons.

    ``test`` is None where there is no champion. ``public`` is what a challenge showed that ended after
    ``rounds`` with the seal unopened; ``comparison`` what one showed that was opened. ``by_margin``: it
    is smaller or faster, and was not shown to be better.
    """

    verdict: GateVerdict
    reason: str
    criteria: tuple[Criterion, ...] = ()
    test: Test | None = None
    public: Difference | None = None
    rounds: int = 0
    comparison: Comparison | None = None
    by_margin: bool = False


def judge_first(
    accuracy: float, calibration_error: float, costs: Costs, policy: GatePolicy
) -> Judgement:
    """Judge a challenger where there is no champion: by its limits alone."""
    least = policy.minimum_accuracy
    enough = Criterion(
        name="accuracy",
        passed=accuracy >= least,
        value=accuracy,
        limit=least,
        text=f"test accuracy {accuracy:.2%}, at least {least:.2%}",
    )
    criteria = enough, *_judge_costs(calibration_error, costs, policy)
    found = _with_limits("promote", "", criteria)
    return replace(found, reason=found.reason or "the first of its name, and it keeps every limit")


def judge_unopened(public: Difference, rounds: int, test: Test) -> Judgement:
    """Judge a challenger that is too little or not better on the public images: a tie."""
    side = "behind" if public.gain < 0 else "hardly ahead" if public.gain else "not ahead"
    reason = f"{side} on the public images"
    return Judgement(verdict="tie", reason=reason, test=test, public=public, rounds=rounds)


def judge(
    comparison: Comparison,
    losses: Mapping[str, tuple[float, float]],
    calibration_error: float,
    costs: Costs,
    policy: GatePolicy,
    test: Test,
    *,
    is_smaller: bool,
) -> Judgement:
    """Judge a challenger by ``comparison`` with the champion, and by the limits of ``policy``.

    Args:
        losses: the recall that each class loses, and its lower bound.
        is_smaller: it costs at most ``SMALLER`` of what the champion costs: with ``policy.margin`` it
            need not be better.
    """
    is_better = comparison.p_value < test.level
    by_margin = (
        not is_better
        and is_smaller
        and policy.margin > 0
        and is_not_worse(comparison, policy.margin, test.level)
    )
    verdict, reason = _weigh(comparison, policy, is_better=is_better, by_margin=by_margin)
    criteria = (
        _judge_recall(losses, policy),
        *_judge_costs(calibration_error, costs, policy),
    )
    found = _with_limits(verdict, reason, criteria)
    return replace(found, test=test, comparison=comparison, by_margin=by_margin)


def _weigh(
    comparison: Comparison, policy: GatePolicy, *, is_better: bool, by_margin: bool
) -> tuple[GateVerdict, str]:
    if is_better:
        return "promote", "better than the champion"
    if by_margin:
        points = f"{100 * policy.margin:.2f} points"
        return "promote", f"smaller or faster, and worse by less than {points} if at all"
    if comparison.is_worse:
        return "reject", "worse than the champion"
    asked = f" by more than {policy.minimum_gain:.2%}" if policy.minimum_gain else ""
    return "tie", f"not shown to be better{asked}"


def _with_limits(verdict: GateVerdict, reason: str, criteria: tuple[Criterion, ...]) -> Judgement:
    broken = [each.name for each in criteria if not each.passed]
    if broken:
        found = f"limits not kept: {', '.join(broken)}"
        verdict, reason = "reject", f"{reason}; {found}" if reason else found
    return Judgement(verdict=verdict, reason=reason, criteria=criteria)


def _judge_recall(losses: Mapping[str, tuple[float, float]], policy: GatePolicy) -> Criterion:
    """Broken where a class's loss is shown to be greater than the limit."""
    worst = max(losses, key=lambda name: losses[name][1])
    loss, low = losses[worst]
    most = policy.maximum_recall_loss
    said = (
        f"class {worst} loses {100 * loss:.2f} points of recall, at least {100 * low:.2f}"
        if low > 0
        else "no class is shown to lose recall"
    )
    return Criterion(
        name="recall",
        passed=low <= most,
        value=low,
        limit=most,
        text=f"{said}; at most {100 * most:.2f} points are allowed",
    )


def _judge_costs(calibration_error: float, costs: Costs, policy: GatePolicy) -> Iterator[Criterion]:
    for name, value, limit, unit in (
        ("calibration_error", calibration_error, policy.maximum_calibration_error, ""),
        ("parameters", costs.parameters, policy.maximum_parameters, ""),
        ("file_size", costs.file_size, policy.maximum_file_size, " bytes"),
        ("latency", costs.latency, policy.maximum_latency, " ms"),
    ):
        yield Criterion(
            name=name,
            passed=bool(value <= limit),
            value=float(value),
            limit=float(limit),
            text=f"{name.replace('_', ' ')} {_short(value)}{unit}, at most {_short(limit)}{unit}",
        )


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
