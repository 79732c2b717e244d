"""A challenge: rounds of trainings, one opening of the sealed images, a version, a judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from mnist_lab.config import describe_value
from mnist_lab.errors import MnistLabError
from mnist_lab.evaluation import Evaluation
from mnist_lab.models import (
    ModelFile,
    load,
    versions_named,
)
from mnist_lab.promotion.card import gather
from mnist_lab.promotion.challenge import Challenge
from mnist_lab.promotion.contender import Contender
from mnist_lab.promotion.contest import Candidate, Contest, Opponent
from mnist_lab.promotion.decision import PromotionRecord
from mnist_lab.promotion.ensemble import ensemble_tags, log_ensemble, require_loadable
from mnist_lab.promotion.entries import Entry, find_entries, load_entry, predict_parts
from mnist_lab.promotion.evidence import (
    LAST_FUTILE,
    ROUNDS,
    Arm,
    Difference,
    bound_recall_losses,
    compare_arms,
    compare_public,
    is_futile,
    pick_shipped,
)
from mnist_lab.promotion.gate import Costs, Judgement, judge, judge_first, judge_unopened
from mnist_lab.promotion.openings import SEALED_DIGEST
from mnist_lab.promotion.sealed_test import (
    Opened,
    measure_costs,
    open_for,
    read_sealed,
    score,
)
from mnist_lab.study import Replica
from mnist_lab.tracking import TAG

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Examined:
    """A decision, and the ``facts`` of the model card; None where the sealed images stayed sealed."""

    decision: PromotionRecord
    facts: dict[str, Any] | None


def examine(
    contest: Contest, champion: int | None, challenge: Challenge | None, *, force: bool
) -> Examined:
    """Train rounds, open the sealed images if that is worth it, register a version, and judge it."""
    is_smaller = _is_smaller(contest)
    margin = contest.policy.margin if is_smaller else 0.0
    public, rounds = _train_rounds(contest, margin)
    entries = find_entries(contest, contest.candidate.contender, rounds, is_mine=True)
    blank = PromotionRecord(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        version=0,
        champion=champion,
        opponent=None if contest.opponent is None else contest.opponent.version,
        forced=False,
        accuracy=None,
        champion_accuracy=None,
        openings=0,
        policy=contest.policy,
        judgement=Judgement(verdict="tie", reason=""),
    )
    if public is not None and not force:
        assert challenge is not None
        version = _register(contest, *_ship(contest, _first_whole(entries)))
        judgement = judge_unopened(public, rounds, challenge.test)
        return Examined(replace(blank, version=int(version.version), judgement=judgement), None)
    return _open(contest, entries, rounds, blank, challenge, is_smaller=is_smaller)


def _train_rounds(contest: Contest, margin: float) -> tuple[Difference | None, int]:
    """Train both, and compare them up to three times; return what shows that more is futile, if so.

    Each look is after one more round. An ensemble needs all of its rounds for the first. Where nobody
    is to be compared with on the public images, there is no second look. Also returned are the rounds
    of the challenger.
    """
    mine, opponent = contest.candidate.contender, contest.opponent
    theirs = None if opponent is None else opponent.contender
    tried: set[tuple[str, Replica]] = set()
    for look in range(1 if mine.members == 1 else LAST_FUTILE, ROUNDS + 1):
        rounds = mine.rounds(look)
        arm = _train(contest, mine, rounds, tried, is_mine=True)
        if not arm.parts:
            raise MnistLabError(
                f"No training of trial {mine.trial} of {mine.study} came to its end."
                if mine.members == 1
                else f"No {mine.members} trainings of trial {mine.trial} without the same part of "
                "the images came to their end.",
                safe="The sealed images were not opened, and no alias was moved.",
                next_step=f"See why: mnist-lab leaderboard {mine.study}+confirm",
            )
        if theirs is None:
            return None, rounds
        against = _train(contest, theirs, theirs.rounds(look), tried, is_mine=False)
        public = compare_public(arm, against)
        if public is None:  # the champion could not be trained
            return None, rounds
        if is_futile(public, look, margin):
            return public, rounds
    return None, rounds


def _train(
    contest: Contest,
    contender: Contender,
    rounds: int,
    tried: set[tuple[str, Replica]],
    *,
    is_mine: bool,
) -> Arm:
    """Train the replicas that are missing; return what all of them predict on the public parts.

    Those that were ``tried`` before in this promotion are not trained once more.
    """
    study = contender.study
    missing = [each for each in contender.missing(rounds) if (study, each) not in tried]
    if missing:
        tried.update((study, each) for each in missing)
        contest.train(study, missing, contest.data.source)
    predict_parts(contest, contender, rounds, is_mine=is_mine)
    return contender.arm(rounds, contest.labels)


def _open(
    contest: Contest,
    entries: Sequence[Entry],
    rounds: int,
    blank: PromotionRecord,
    challenge: Challenge | None,
    *,
    is_smaller: bool,
) -> Examined:
    """Open the sealed images, register the replica that ships, and judge the challenger by all."""
    client, candidate, opponent = contest.client, contest.candidate, contest.opponent
    if candidate.contender.members > 1:  # what could not be loaded opens nothing
        require_loadable(contest, _first_whole(entries))
    theirs: list[Entry] = []
    if opponent is not None and opponent.contender is not None:
        theirs = find_entries(
            contest, opponent.contender, opponent.contender.rounds(ROUNDS), is_mine=False
        )
    opened = open_for(
        [*entries, *theirs],
        contest.sealed,
        contest.purpose,
        client=client,
        dataset=candidate.record.dataset,
        champion=None
        if opponent is None or theirs
        else load(client, opponent.model, contest.settings),
    )
    wrong = read_sealed(entries, opened.test)
    shipped = entries[pick_shipped(wrong, [row for row, each in enumerate(entries) if each.models])]
    shipped, model = _ship(contest, shipped)
    network = load_entry(contest, shipped)
    version = _register(contest, shipped, model)
    evaluation = score(client, model, network, opened, candidate.record.images.class_names)
    arm = candidate.contender.arm(rounds, contest.labels, wrong)
    champion = None if opponent is None else _champion_arm(contest, opponent, theirs, opened)
    decision = replace(
        blank,
        version=int(version.version),
        accuracy=evaluation.accuracy,
        champion_accuracy=_mean_accuracy(champion),
        openings=opened.openings,
        judgement=_judge(
            contest,
            challenge,
            (arm, champion),
            evaluation,
            measure_costs(client, model, network, opened.test),
            opened.test.labels,
            is_smaller=is_smaller,
        ),
    )
    facts = gather(
        version, shipped, model, decision, evaluation, candidate.confirmation, contest.settings
    )
    return Examined(decision, facts)


def _judge(
    contest: Contest,
    challenge: Challenge | None,
    arms: tuple[Arm, Arm | None],
    evaluation: Evaluation,
    costs: Costs,
    labels: NDArray[np.uint8],
    *,
    is_smaller: bool,
) -> Judgement:
    """Judge the challenger against the champion, or by the limits alone; ``labels`` are the sealed."""
    policy, (challenger, champion) = contest.policy, arms
    if champion is None or challenge is None:
        found = judge_first(evaluation.accuracy, evaluation.calibration_error, costs, policy)
        if challenge is None:
            return found
        why = "the champion's file cannot be read or is of other data: they were not compared"
        return replace(found, reason=why)
    losses = bound_recall_losses(challenger, champion, contest.labels, labels)
    return judge(
        compare_arms(challenger, champion, minimum_gain=policy.minimum_gain),
        {evaluation.class_names[label]: loss for label, loss in losses.items()},
        evaluation.calibration_error,
        costs,
        policy,
        challenge.test,
        is_smaller=is_smaller,
    )


def _mean_accuracy(arm: Arm | None) -> float | None:
    return None if arm is None or arm.sealed is None else float(1 - arm.sealed.mean())


def _champion_arm(
    contest: Contest, opponent: Opponent, theirs: Sequence[Entry], opened: Opened
) -> Arm:
    if opponent.contender is None or not theirs:  # its file alone
        return Arm(parts={}, sealed=opened.champion, members=opponent.members)
    against = read_sealed(theirs, opened.test)
    theirs_rounds = opponent.contender.rounds(ROUNDS)
    return opponent.contender.arm(theirs_rounds, contest.labels, against)


def _is_smaller(contest: Contest) -> bool:
    """Whether the challenger is smaller or faster than the champion in use, by the searches' trials."""
    opponent = contest.opponent
    if not contest.policy.margin or opponent is None or opponent.costs is None:
        return False
    return contest.candidate.contender.costs().is_smaller_than(opponent.costs)


# The registry


def _ensure_registered_model(client: MlflowClient, candidate: Candidate) -> None:
    if not client.search_registered_models(f"name = '{candidate.name}'"):
        tags = {f"{TAG}family": candidate.record.family}
        client.create_registered_model(candidate.name, tags=tags)


def _first_whole(entries: Sequence[Entry]) -> Entry:
    """The first entry whose models are there."""
    return next(each for each in entries if each.models)


def _ship(contest: Contest, entry: Entry) -> tuple[Entry, ModelFile]:
    """The model of an entry as MLflow has it; that of an ensemble is logged now, and loaded again."""
    if not entry.group.is_ensemble:
        return entry, entry.models[0]
    model = log_ensemble(contest, entry)
    return replace(entry, network=load(contest.client, model, contest.settings)), model


def _register(contest: Contest, entry: Entry, model: ModelFile) -> ModelVersion:
    """Make a version of an entry's model, unless there is one, made before an interruption."""
    client, candidate = contest.client, contest.candidate
    _ensure_registered_model(client, candidate)
    for version in versions_named(client, candidate.name):
        if (version.tags.get(f"{TAG}sha256"), version.run_id) == (model.sha256, model.run):
            return version
    members = len(entry.models)
    as_one = f", the mean of {members} trainings as one model" if members > 1 else ""
    confirmation, choice, record = (
        candidate.confirmation,
        candidate.confirmation.choice,
        candidate.record,
    )
    return client.create_model_version(
        candidate.name,
        source=f"models:/{model.model}",
        run_id=model.run,
        model_id=model.model,
        tags={
            f"{TAG}study": confirmation.study,
            f"{TAG}study_id": record.id,
            f"{TAG}trial": str(choice.trial),
            **(
                ensemble_tags(entry)
                if entry.group.is_ensemble
                else {
                    f"{TAG}replica": str(model.trial),
                    f"{TAG}replicas_id": entry.ledger.record.id,
                }
            ),
            f"{TAG}run": model.run,
            f"{TAG}space": record.space,
            f"{TAG}space_digest": record.space_digest,
            f"{TAG}dataset": record.dataset,
            f"{TAG}dataset_digest": record.dataset_digest,
            SEALED_DIGEST: contest.sealed.digest,
            f"{TAG}sha256": model.sha256,
            **({f"{TAG}blueprint": model.blueprint.to_json()} if model.blueprint else {}),
            f"{TAG}val_accuracy": repr(choice.val_accuracy),
            f"{TAG}objective": confirmation.objective,
            f"{TAG}{confirmation.objective}_low": repr(choice.low),
            f"{TAG}{confirmation.objective}_high": repr(choice.high),
        },
        description=f"Trial {choice.trial} of study {confirmation.study}{as_one}: "
        f"{confirmation.objective} {describe_value(confirmation.objective, choice.mean)}, the mean of "
        f"{confirmation.seeds} trainings with fresh seeds.",
    )
