"""The record of a gate's decision: with the version, for programs, and with its run, for people."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from pydantic import TypeAdapter, ValidationError

from mnist_lab.models import is_writable
from mnist_lab.promotion.evidence import Comparison, detectable_gain
from mnist_lab.promotion.gate import GatePolicy, Judgement
from mnist_lab.tracking import TAG

_DECISION = f"{TAG}decision"
LEAST_P = 0.00001
# Images with fewer of which only a large gain can be shown; of 600 public ones half are left out.
FEW_PUBLIC, FEW_SEALED = 300, 200


@dataclass(frozen=True, kw_only=True)
class PromotionRecord:
    """The gate's decision about a version, and its reasons.

    ``champion`` is the version that was champion then; ``opponent`` the one that it was compared with,
    the best champion so far.

    Accuracies are of the sealed images: of the version's own file, None if they were not opened; of the
    champion the mean of its trainings, None if it was not compared. ``openings`` counts how often the
    images were opened, by whomever.
    """

    when: str
    version: int
    champion: int | None
    opponent: int | None
    forced: bool
    accuracy: float | None
    champion_accuracy: float | None
    openings: int
    policy: GatePolicy
    judgement: Judgement

    @property
    def promoted(self) -> bool:
        return self.forced or self.judgement.verdict == "promote"


def read_decision(version: ModelVersion) -> PromotionRecord | None:
    """Read the last decision about a version.

    None if there is none, or one of an earlier version, by another test.
    """
    try:
        return TypeAdapter(PromotionRecord).validate_json(version.tags.get(_DECISION, ""))
    except ValidationError:
        return None


def write_decision(client: MlflowClient, version: ModelVersion, decision: PromotionRecord) -> None:
    """Write the decision on the version, as tags, and with its run, if it is there, as files."""
    document = json.dumps(asdict(decision))
    number = str(version.version)
    for key, value in ((_DECISION, document), (f"{TAG}verdict", decision.judgement.verdict)):
        client.set_model_version_tag(version.name, number, key, value)
    if not is_writable(client, str(version.run_id)):
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "decision.json").write_text(json.dumps(asdict(decision), indent=1))
        (folder / "decision.md").write_text(describe_decision(version.name, decision))
        client.log_artifacts(str(version.run_id), scratch, "decision")


def describe_decision(name: str, decision: PromotionRecord) -> str:
    """Describe the decision as markdown."""
    judgement = decision.judgement
    lines = [
        f"# {name}, version {decision.version}: {judgement.verdict}"
        + (" (promoted by force)" if decision.forced else ""),
        "",
        f"{decision.when}: {judgement.reason}. {describe_accuracies(decision)}".rstrip(),
        "",
        *(line for said in describe_judgement(judgement) for line in (said, "")),
    ]
    if judgement.criteria:
        lines += ["| asked | kept |", "|:--|:--|"]
        lines += [f"| {each.text} | {'yes' if each.passed else 'no'} |"
                  for each in judgement.criteria]  # fmt: skip
    return "\n".join(lines) + "\n"


def describe_judgement(judgement: Judgement) -> list[str]:
    """Say what was measured against the champion, in a sentence or two; nothing without one."""
    return list(_describe(judgement))


def _describe(judgement: Judgement) -> Iterator[str]:
    test, public, found = judgement.test, judgement.public, judgement.comparison
    if test is None:
        return
    if public is not None:
        side = "Behind" if public.gain < 0 else "Hardly ahead" if public.gain else "Not ahead"
        yield (
            f"{side} on {public.images:,} public images after {3 * judgement.rounds} trainings "
            f"({_points(public.gain)} points): the sealed images were not opened. "
            f"This was challenge {test.challenge}."
        )
    if found is None:
        return
    first = judgement.reason.partition(";")[0]
    least = 100 * (found.minimum_gain + detectable_gain(found.error, test.level))
    yield (
        f"{first[:1].upper()}{first[1:]}: {_points(found.gain)} points (95 % interval "
        f"{_points(found.low)} to {_points(found.high)}), {_images(found)}; "
        f"p = {_probability(found.p_value)}, asked {_probability(test.level)} "
        f"(challenge {test.challenge})."
    )
    few = found.sealed.images < FEW_SEALED or (found.public and found.public.images < FEW_PUBLIC)
    if few:
        yield f"So few images show large gains only: one of {least:.1f} points, 4 times of 5."
    elif judgement.verdict == "tie":
        yield f"A true gain of {least:.2f} points would be found 4 times of 5."


def describe_accuracies(decision: PromotionRecord) -> str:
    """Say what the sealed images showed of the version and of the champion; nothing if unopened."""
    if decision.accuracy is None:
        return ""
    said = f"Test accuracy {decision.accuracy:.2%} (opening {decision.openings} of these images)"
    champion, best, mean = decision.champion, decision.opponent, decision.champion_accuracy
    if champion is None:
        return f"{said}; there was no champion."
    if mean is None:
        return f"{said}; that of the champion (version {champion}) was not measured."
    who = f"version {champion}" if best == champion else f"version {best}, the best so far"
    found = decision.judgement.comparison
    what = "ensembles" if found is not None and found.members[1] > 1 else "trainings"
    return f"{said}; {what} of the champion ({who}) have {mean:.2%} in the mean."


def _images(found: Comparison) -> str:
    mine, theirs = (
        _trainings(count, members)
        for count, members in zip(found.trainings, found.members, strict=True)
    )
    of = f"{mine} of each" if mine == theirs else f"{mine} against {theirs}"
    if found.public is None:
        return f"{of}, on {found.sealed.images:,} sealed images"
    return (
        f"{of}, on {found.public.images:,} public images left out of training and "
        f"{found.sealed.images:,} sealed ones"
    )


def _trainings(count: int, members: int) -> str:
    what = "training" if members == 1 else "ensemble"
    of = "" if members == 1 else f" of {members} trainings"
    return f"{count} {what}{'' if count == 1 else 's'}{of}"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def _probability(value: float) -> str:
    if value < LEAST_P:
        return f"less than {LEAST_P:.5f}"
    digits = 1 if value < 0.001 else 3
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")
