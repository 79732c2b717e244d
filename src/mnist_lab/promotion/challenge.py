"""The challenges of a registered model: counted, so that each is tested at a level of its own.

They are tags of the registered model, one each, by the digests of the sealed images and of who
challenges: deleting a version or changing the policy loses none, and two at once overwrite none. Only
other sealed images begin anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from pydantic import TypeAdapter

from mnist_lab.models import read_tags, versions_named
from mnist_lab.promotion.evidence import level_of
from mnist_lab.promotion.gate import GatePolicy, Test
from mnist_lab.tracking import TAG

_DIGITS = 16  # of a digest, in the name of a tag
_DECISION, _CHALLENGE = f"{TAG}decision", f"{TAG}challenge."
PENDING, FORCED = "", "forced"


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """Who challenges, whom, and by which policy: the same is the same challenge.

    ``members`` is how many trainings an ensemble has, 1 for a single one.
    """

    study: str
    study_id: str
    trial: int
    champion: int
    policy: str
    members: int = 1


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """One challenge, counted by ``number`` from 1; ``promotions`` are those before it.

    ``verdict`` is the gate's, empty until it has decided, ``forced`` if nothing was compared.
    """

    number: int
    when: str
    by: Challenger
    significance: float
    promotions: int
    verdict: str

    @property
    def test(self) -> Test:
        return Test(
            challenge=self.number,
            level=level_of(self.significance, self.number, self.promotions),
            significance=self.significance,
        )


def digest_policy(policy: GatePolicy) -> str:
    """Return a digest of every limit."""
    return _digest(asdict(policy))


def read_challenges(client: MlflowClient, name: str, digest: str) -> list[Challenge]:
    """Read the challenges of a registered model on the sealed images of ``digest``, oldest first."""
    found = _read(client, name, _prefix(digest)).values()
    return sorted(found, key=lambda each: each.number)


def read_all_challenges(client: MlflowClient, name: str) -> list[Challenge]:
    """Read all challenges of a registered model, on whichever sealed images, by number."""
    found = _read(client, name, _CHALLENGE).values()
    return sorted(found, key=lambda each: (each.when, each.number))


def _read(client: MlflowClient, name: str, prefix: str) -> dict[str, Challenge]:
    """Read the challenges by their tags, which begin with ``prefix``.

    Facts that later versions have added are left out.
    """
    adapter, found = TypeAdapter(Challenge), {}
    for key, value in read_tags(client, name).items():
        if key.startswith(prefix):
            named = key.rpartition(".")[2]  # the first tags were named by their number
            found[key] = adapter.validate_python({"number": named, **json.loads(value)})
    return found


def begin_challenge(
    client: MlflowClient,
    name: str,
    digest: str,
    by: Challenger,
    policy: GatePolicy,
    *,
    dataset_digest: str,
) -> Challenge:
    """Return the challenge of ``by``: the next, or the same again, with its number and level.

    Its significance is the least that any challenge so far was held at. Decisions of earlier versions
    on the data of ``dataset_digest`` count as challenges.
    """
    earlier = read_challenges(client, name, digest)
    for each in earlier:
        if each.by == by:
            return each
    number, promotions = _count_former(client, name, dataset_digest)
    if earlier:
        last = earlier[-1]
        number, promotions = last.number, last.promotions + (last.verdict == "promote")
    challenge = Challenge(
        number=number + 1,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        by=by,
        significance=min([policy.significance, *(each.significance for each in earlier)]),
        promotions=promotions,
        verdict=PENDING,
    )
    _write(client, name, digest, challenge)
    return challenge


def finish_challenge(
    client: MlflowClient, name: str, digest: str, challenge: Challenge, verdict: str
) -> None:
    """Write the gate's verdict about a challenge."""
    _write(client, name, digest, replace(challenge, verdict=verdict))


def _digest(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _write(client: MlflowClient, name: str, digest: str, challenge: Challenge) -> None:
    """Write a challenge into its tag, which earlier versions named otherwise."""
    prefix = _prefix(digest)
    there = _read(client, name, prefix)
    own = [key for key, each in there.items() if each.by == challenge.by]
    key = own[0] if own else f"{prefix}{_digest(asdict(challenge.by))}"
    client.set_registered_model_tag(name, key, json.dumps(asdict(challenge)))


def _count_former(client: MlflowClient, name: str, dataset_digest: str) -> tuple[int, int]:
    """Count the decisions of earlier versions against a champion, and their promotions."""
    tests = promotions = 0
    for version in versions_named(client, name):
        if version.tags.get(f"{TAG}dataset_digest") != dataset_digest:
            continue
        facts = json.loads(version.tags.get(_DECISION, "{}"))
        judgement = facts.get("judgement", {})
        if facts.get("champion") is not None and "test" not in judgement:
            tests += 1
            compared = bool(judgement.get("comparison"))
            promotions += compared and judgement.get("verdict") == "promote"
    return tests, promotions


def _prefix(digest: str) -> str:
    return f"{_CHALLENGE}{digest[:_DIGITS]}."
