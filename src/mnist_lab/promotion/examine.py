"""A challenge: rounds of trainings, one opening of the sealed images, a version, a judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from mnist_lab.config import describe_value
from mnist_lab.errors import BusyError, InterruptedSweep, MnistLabError
from mnist_lab.models import (
    ModelFile,
    find_trial_model,
    find_version_model,
    load,
    versions_named,
)
from mnist_lab.promotion.card import gather
from mnist_lab.promotion.challenge import Challenge
from mnist_lab.promotion.contender import Contender
from mnist_lab.promotion.contest import Candidate, Contest
from mnist_lab.promotion.decision import PromotionRecord, read_decision
from mnist_lab.promotion.evidence import (
    ROUNDS,
    Arm,
    Difference,
    bound_recall_losses,
    compare_arms,
    compare_public,
    is_futile,
    pick_shipped,
)
from mnist_lab.promotion.gate import (
    Judgement,
    judge,
    judge_first,
    judge_unopened,
)
from mnist_lab.promotion.openings import count_for_model
from mnist_lab.promotion.sealed_test import Entry, measure_costs, open_for, read_sealed, score
from mnist_lab.study import Ledger
from mnist_lab.tracking import TAG


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
    entries = _entries(contest, contest.candidate.contender, rounds, is_mine=True)
    assert entries[0].model is not None
    version = _register(contest, entries[0].model)
    if public is not None and not force:
        assert challenge is not None
        judgement = judge_unopened(public, rounds, challenge.test)
        return Examined(replace(blank, version=int(version.version), judgement=judgement), None)
    examined = _open(contest, entries, rounds, blank, challenge, is_smaller=is_smaller)
    if examined.decision.version != int(version.version) and not read_decision(version):
        contest.client.delete_model_version(version.name, str(version.version))  # passed over
    return examined


def _train_rounds(contest: Contest, margin: float) -> tuple[Difference | None, int]:
    """Train up to three rounds of both; return how many, and what shows that more are futile, if so.

    Where nobody is to be compared with on the public images, one round is trained.
    """
    mine, opponent = contest.candidate.contender, contest.opponent
    theirs = None if opponent is None else opponent.contender
    for round_ in range(1, ROUNDS + 1):
        for each in filter(None, (mine, theirs)):
            if missing := each.missing(round_):
                contest.train(each.study, missing, contest.source)
        arm = mine.arm(round_, contest.labels)
        if not arm.parts:
            raise MnistLabError(
                f"No training of trial {mine.trial} of {mine.study} came to its end.",
                safe="The sealed images were not opened, and no alias was moved.",
                next_step=f"See why: mnist-lab leaderboard {mine.study}+confirm",
            )
        if theirs is None:
            return None, round_
        public = compare_public(arm, theirs.arm(round_, contest.labels))
        if public is None:  # the champion could not be trained
            return None, round_
        if is_futile(public, round_, margin):
            return public, round_
    return None, ROUNDS


def _open(
    contest: Contest,
    entries: Sequence[Entry],
    rounds: int,
    blank: PromotionRecord,
    challenge: Challenge | None,
    *,
    is_smaller: bool,
) -> Examined:
    client, candidate, opponent = contest.client, contest.candidate, contest.opponent
    theirs: list[Entry] = []
    if opponent is not None and opponent.contender is not None:
        theirs = _entries(contest, opponent.contender, ROUNDS, is_mine=False)
    file_only = opponent.model if opponent is not None and not theirs else None
    opened = open_for(
        client, [*entries, *theirs], contest.sealed, contest.purpose, contest.settings, file_only
    )
    wrong = read_sealed(entries, opened.test)
    shipped = entries[pick_shipped(wrong, list(range(len(wrong))))]
    assert shipped.model is not None
    version = _register(contest, shipped.model)  # another one, if it is not the first
    if shipped is not entries[0]:
        count_for_model(client, shipped.model.run)
    network = load(client, shipped.model, contest.settings)
    names = candidate.record.images.class_names
    result = score(client, shipped.model, network, opened.test, opened.openings, names)
    costs = measure_costs(client, shipped.model, network, opened.test)
    found = replace(
        blank,
        version=int(version.version),
        accuracy=result.evaluation.accuracy,
        openings=opened.openings,
    )
    calibration = result.evaluation.calibration_error
    if opponent is None or challenge is None:
        judgement = judge_first(result.evaluation.accuracy, calibration, costs, contest.policy)
        if blank.champion is not None:
            why = "the champion's file cannot be read or is of other data: they were not compared"
            judgement = replace(judgement, reason=why)
    else:
        champion = Arm(parts={}, sealed=opened.champion)
        if theirs:
            assert opponent.contender is not None
            against = read_sealed(theirs, opened.test)
            champion = opponent.contender.arm(ROUNDS, contest.labels, against)
        arm = candidate.contender.arm(rounds, contest.labels, wrong)
        losses = bound_recall_losses(arm, champion, contest.labels, opened.test.labels)
        judgement = judge(
            compare_arms(arm, champion, minimum_gain=contest.policy.minimum_gain),
            {names[label]: loss for label, loss in losses.items()},
            calibration,
            costs,
            contest.policy,
            challenge.test,
            is_smaller=is_smaller,
        )
        assert champion.sealed is not None
        found = replace(found, champion_accuracy=float(1 - champion.sealed.mean()))
    decision = replace(found, judgement=judgement)
    facts = gather(
        version,
        shipped.model,
        decision,
        result.evaluation,
        candidate.confirmation,
        contest.settings,
    )
    return Examined(decision, facts)


def _entries(contest: Contest, contender: Contender, rounds: int, *, is_mine: bool) -> list[Entry]:
    """The replicas that predict the sealed images, with the networks of those that have yet to.

    Of an opponent only those whose classes are kept, or whose model is still there.
    """
    client, ledger = contest.client, contender.ledger()
    kept = ledger.sealed_classes(contest.sealed.digest)
    found, has_published = [], False
    for trial in contender.replicas(rounds).values():
        try:
            model = _find_model(client, contest.candidate.name, ledger, trial.number)
        except MnistLabError:
            if trial.number in kept and not is_mine:
                found.append(Entry(ledger=ledger, trial=trial, model=None, network=None))
                continue
            if (
                not has_published
            ):  # interrupted before MLflow had it: nothing is trained, it is logged
                _publish(contest, contender, is_mine=is_mine)
                has_published = True
            model = None
        try:
            model = model or _find_model(client, contest.candidate.name, ledger, trial.number)
            network = None if trial.number in kept else load(client, model, contest.settings)
        except MnistLabError:
            if is_mine:
                raise
            continue
        found.append(Entry(ledger=ledger, trial=trial, model=model, network=network))
    return found


def _publish(contest: Contest, contender: Contender, *, is_mine: bool) -> None:
    """Have MLflow take what it lacks of a contender's replicas; an opponent's may be gone for good."""
    try:
        contest.train(contender.study, (), contest.source)
    except (InterruptedSweep, BusyError):
        raise
    except MnistLabError:
        if is_mine:
            raise


def _find_model(client: MlflowClient, name: str, replicas: Ledger, replica: int) -> ModelFile:
    """A replica's model: that of the version made of it, if there is one, for its run may be gone."""
    tracked = replicas.tracked().get(replica)
    for version in versions_named(client, name):
        of = version.tags.get(f"{TAG}replica"), version.tags.get(f"{TAG}replicas_id")
        if of == (str(replica), replicas.record.id) or (tracked and version.run_id == tracked.run):
            return find_version_model(client, version)
    return find_trial_model(client, replicas.find_run(replica))


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


def _register(contest: Contest, model: ModelFile) -> ModelVersion:
    """Make a version of this model, unless there is one: made before an interruption."""
    client, candidate = contest.client, contest.candidate
    load(client, model, contest.settings)  # looked at before it is registered
    _ensure_registered_model(client, candidate)
    for version in versions_named(client, candidate.name):
        if (version.tags.get(f"{TAG}sha256"), version.run_id) == (model.sha256, model.run):
            return version
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
            f"{TAG}replica": str(model.trial),
            f"{TAG}replicas_id": candidate.contender.ledger().record.id,
            f"{TAG}run": model.run,
            f"{TAG}space": record.space,
            f"{TAG}space_digest": record.space_digest,
            f"{TAG}dataset": record.dataset,
            f"{TAG}dataset_digest": record.dataset_digest,
            f"{TAG}sealed_digest": contest.sealed.digest,
            f"{TAG}sha256": model.sha256,
            **({f"{TAG}blueprint": model.blueprint.to_json()} if model.blueprint else {}),
            f"{TAG}val_accuracy": repr(choice.val_accuracy),
            f"{TAG}objective": confirmation.objective,
            f"{TAG}{confirmation.objective}_low": repr(choice.low),
            f"{TAG}{confirmation.objective}_high": repr(choice.high),
        },
        description=f"Trial {choice.trial} of study {confirmation.study}: {confirmation.objective} "
        f"{describe_value(confirmation.objective, choice.mean)}, the mean of "
        f"{confirmation.seeds} trainings with fresh seeds.",
    )
