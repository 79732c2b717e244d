"""The gate that decides, from measurements alone, whether a challenger replaces the champion.

Numbers in, a decision with its reasons out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from mnist_lab.config import MAXIMUM_FILE_SIZE, MAXIMUM_LATENCY, MAXIMUM_PARAMETERS, read_toml

Share = Annotated[float, Field(ge=0, le=1)]
GateVerdict = Literal["promote", "tie", "reject"]
RESAMPLES = 10_000  # of the bootstrap: p-values near 0.05 have a standard error of 0.002
_BOOTSTRAP_SEED = 0  # the same decision from the same predictions


@dataclass(frozen=True, kw_only=True)
class GatePolicy:
    """The limits for a challenger; ``experiments/gate.toml`` explains every key."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    test: Literal["mcnemar", "bootstrap"] = "mcnemar"
    significance: Share = 0.05
    minimum_gain: Share = 0.0
    minimum_accuracy: Share = 0.9
    maximum_recall_loss: Share = 0.01
    maximum_calibration_error: Share = 0.25
    maximum_parameters: Annotated[int, Field(gt=0)] = MAXIMUM_PARAMETERS
    maximum_file_size: Annotated[int, Field(gt=0)] = MAXIMUM_FILE_SIZE
    maximum_latency: Annotated[float, Field(gt=0)] = MAXIMUM_LATENCY


def read_policy(file: Path) -> GatePolicy:
    """Read a policy file; raises as ``read_toml``."""
    return read_toml(GatePolicy, file)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The predictions ``(N,) int64`` of a model on ``N`` sealed images, and its costs.

    ``file_size`` in bytes, ``latency`` in milliseconds for one image.
    """

    predicted: NDArray[np.int64]
    calibration_error: float
    parameters: int
    file_size: int
    latency: float


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A paired test of challenger and champion on the same images.

    ``gained`` images only the challenger has right, ``lost`` ones only the champion. ``gain`` is the
    difference of their accuracies with its 95 % interval from ``low`` to ``high``; ``p_value`` is
    two-sided, of the test ``method``.
    """

    method: str
    images: int
    gained: int
    lost: int
    gain: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One limit of the gate: ``value`` against ``limit``, and in words."""

    name: str
    passed: bool
    value: float
    limit: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The gate's verdict and its reasons; ``comparison`` is None where there is no champion."""

    verdict: GateVerdict
    reason: str
    comparison: PairedTest | None
    criteria: tuple[Criterion, ...]


def judge(
    challenger: Measured,
    champion: Measured | None,
    labels: NDArray[np.uint8],
    policy: GatePolicy,
) -> Judgement:
    """Judge a challenger by the limits of ``policy`` and against the champion.

    ``promote`` if it is certainly better and keeps every limit; ``reject`` if it breaks one or is
    certainly worse; else ``tie``.
    """
    comparison = None if champion is None else compare(challenger, champion, labels, policy)
    criteria = tuple(_criteria(challenger, champion, labels, policy))
    broken = [each.name for each in criteria if not each.passed]
    verdict: GateVerdict = "promote"
    reason = "the first of its name, and it keeps every limit"
    if comparison is not None:
        verdict, reason = _weigh(comparison, policy)
    if broken:
        also = f"{reason}; " if comparison is not None else ""
        verdict, reason = "reject", f"{also}limits not kept: {', '.join(broken)}"
    return Judgement(verdict=verdict, reason=reason, comparison=comparison, criteria=criteria)


def compare(
    challenger: Measured, champion: Measured, labels: NDArray[np.uint8], policy: GatePolicy
) -> PairedTest:
    """Compare challenger and champion by the paired test that ``policy`` names."""
    right, right_before = challenger.predicted == labels, champion.predicted == labels
    gained = int((right & ~right_before).sum())
    lost = int((~right & right_before).sum())
    test = {"mcnemar": mcnemar, "bootstrap": bootstrap}[policy.test]
    p_value, low, high = test(gained, lost, len(labels))
    return PairedTest(
        method=policy.test,
        images=len(labels),
        gained=gained,
        lost=lost,
        gain=(gained - lost) / len(labels),
        low=low,
        high=high,
        p_value=p_value,
    )


def mcnemar(gained: int, lost: int, images: int) -> tuple[float, float, float]:
    """Return the exact two-sided p-value, and Wald's 95 % interval of the difference of accuracies.

    Under the null hypothesis each image that one model alone has right is a fair coin (McNemar 1947).
    The interval is (b - c) / n ± 1.96 sqrt(b + c - (b - c)^2 / n) / n (Agresti, Categorical Data
    Analysis, section 11.1).
    """
    from scipy import stats

    changed, difference = gained + lost, gained - lost
    p_value = float(stats.binomtest(gained, changed).pvalue) if changed else 1.0
    error = np.sqrt(max(0.0, changed - difference**2 / images)) / images
    gain = difference / images
    return p_value, float(gain - 1.96 * error), float(gain + 1.96 * error)


def bootstrap(gained: int, lost: int, images: int) -> tuple[float, float, float]:
    """Return two-sided p-value and 95 % interval of percentiles, from ``RESAMPLES`` draws of images.

    Drawing images with replacement draws the three counts from a multinomial distribution. The p-value
    counts the drawn differences on the far side of zero, and one more, so that it is never 0.
    """
    random = np.random.default_rng(_BOOTSTRAP_SEED)
    shares = np.array([gained, lost, images - gained - lost]) / images
    drawn = random.multinomial(images, shares, size=RESAMPLES)
    gains = (drawn[:, 0] - drawn[:, 1]) / images
    least = min((gains <= 0).sum(), (gains >= 0).sum())
    low, high = np.percentile(gains, [2.5, 97.5])
    return min(1.0, 2 * (least + 1) / (RESAMPLES + 1)), float(low), float(high)


def _weigh(comparison: PairedTest, policy: GatePolicy) -> tuple[GateVerdict, str]:
    certain = comparison.p_value < policy.significance
    if certain and comparison.gain < 0:
        return "reject", "certainly worse than the champion"
    if certain and comparison.gain >= policy.minimum_gain:
        return "promote", "certainly better than the champion"
    if certain:
        return "tie", f"better, but by less than {policy.minimum_gain:.2%}"
    return "tie", "cannot be told apart from the champion"


def _criteria(
    challenger: Measured,
    champion: Measured | None,
    labels: NDArray[np.uint8],
    policy: GatePolicy,
) -> Iterator[Criterion]:
    if champion is None:
        accuracy, least = float((challenger.predicted == labels).mean()), policy.minimum_accuracy
        yield Criterion(
            name="accuracy",
            passed=accuracy >= least,
            value=accuracy,
            limit=least,
            text=f"test accuracy {accuracy:.2%}, at least {least:.2%}",
        )
    else:
        label, loss = _worst_class(challenger, champion, labels)
        most = policy.maximum_recall_loss
        yield Criterion(
            name="recall",
            passed=loss <= most,
            value=loss,
            limit=most,
            text=f"class {label} loses most recall, {loss:.2%}, at most {most:.2%}",
        )
    for name, value, limit, unit in (
        ("calibration_error", challenger.calibration_error, policy.maximum_calibration_error, ""),
        ("parameters", challenger.parameters, policy.maximum_parameters, ""),
        ("file_size", challenger.file_size, policy.maximum_file_size, " bytes"),
        ("latency", challenger.latency, policy.maximum_latency, " ms"),
    ):
        yield Criterion(
            name=name,
            passed=bool(value <= limit),
            value=float(value),
            limit=float(limit),
            text=f"{name.replace('_', ' ')} {_short(value)}{unit}, at most {_short(limit)}{unit}",
        )


def _worst_class(
    challenger: Measured, champion: Measured, labels: NDArray[np.uint8]
) -> tuple[int, float]:
    """The class whose recall falls most, and by how much (less than 0 if none falls)."""
    losses = {
        int(label): float(
            (champion.predicted[of] == label).mean() - (challenger.predicted[of] == label).mean()
        )
        for label in np.unique(labels)
        for of in [labels == label]
    }
    worst = max(losses, key=lambda label: losses[label])
    return worst, losses[worst]


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
