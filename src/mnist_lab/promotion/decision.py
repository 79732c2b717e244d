"""The record of a gate's decision: with the version, for programs, and with its run, for people."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from pydantic import TypeAdapter, ValidationError

from mnist_lab.models import is_writable
from mnist_lab.promotion.gate import GatePolicy, Judgement, PairedTest
from mnist_lab.tracking import TAG

_DECISION = f"{TAG}decision"


@dataclass(frozen=True, kw_only=True)
class PromotionRecord:
    """The gate's decision about a version, and its reasons.

    ``champion`` is the version that it was compared with.

    Accuracies are of the sealed images, the champion's None if its file could not be read; ``openings``
    counts how often this model has seen them.
    """

    when: str
    version: int
    champion: int | None
    forced: bool
    accuracy: float
    champion_accuracy: float | None
    openings: int
    policy: GatePolicy
    judgement: Judgement

    @property
    def promoted(self) -> bool:
        return self.forced or self.judgement.verdict == "promote"


def read_decision(version: ModelVersion) -> PromotionRecord | None:
    """Read the last decision about a version; None if there is none that can be read."""
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
    judgement, against = decision.judgement, decision.champion
    lines = [
        f"# {name}, version {decision.version}: {judgement.verdict}"
        + (" (promoted by force)" if decision.forced else ""),
        "",
        f"{decision.when}: {judgement.reason}. Test accuracy {decision.accuracy:.2%}"
        + ("; there was no champion." if against is None
           else f"; that of the champion (version {against}) was not measured."
           if decision.champion_accuracy is None
           else f", the champion's (version {against}) {decision.champion_accuracy:.2%}."),
        "",
    ]  # fmt: skip
    found = judgement.comparison
    if found is not None:
        lines += [describe_comparison(found), ""]
    lines += ["| asked | kept |", "|:--|:--|"]
    lines += [f"| {each.text} | {'yes' if each.passed else 'no'} |" for each in judgement.criteria]
    return "\n".join(lines) + "\n"


def describe_comparison(found: PairedTest) -> str:
    """Describe a paired test in one sentence."""
    return (
        f"Of the same {found.images:,} images {found.gained} are right with this version only and "
        f"{found.lost} with the champion only: {found.gain:+.2%} (95 % interval {found.low:+.2%} "
        f"to {found.high:+.2%}), {found.method}, p = {found.p_value:.3g}."
    )
