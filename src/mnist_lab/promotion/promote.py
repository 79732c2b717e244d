"""``promote``: make a study's confirmed choice champion, if it passes the gate.

The choice and the champion are compared by replicas: trainings of the same configuration, each without
one part of the public images. Up to three rounds are trained; an ensemble needs all of its own at
once. Who is behind on the public images is turned away; only who is not meets the sealed images, once.
What was trained, predicted or counted is kept at once, so an interrupted promotion goes on where it
was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from mnist_lab.data import part_labels
from mnist_lab.data.sealed import find_test_split
from mnist_lab.errors import MnistLabError
from mnist_lab.models import CHALLENGER, CHAMPION, PREVIOUS, versions_named
from mnist_lab.promotion.aliases import find_holder, finish_pending, move
from mnist_lab.promotion.card import rewrite_card, write_card
from mnist_lab.promotion.challenge import (
    FORCED,
    Challenge,
    Challenger,
    begin_challenge,
    digest_policy,
    finish_challenge,
)
from mnist_lab.promotion.contender import Contender
from mnist_lab.promotion.contest import (
    Candidate,
    Contest,
    Train,
    find_candidate,
    find_opponent,
    has_page,
    is_of,
    model_name,
    require_same_data,
)
from mnist_lab.promotion.decision import PromotionRecord, read_decision, write_decision
from mnist_lab.promotion.examine import examine
from mnist_lab.promotion.gate import GatePolicy
from mnist_lab.settings import Settings
from mnist_lab.study import PROMOTE_PARTS, Design, load_original_dataset, lock_model, open_study
from mnist_lab.tracking import TAG


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The result of ``promote``; ``already`` if the model was champion before, with no decision made.

    ``val_accuracy`` is the mean of the chosen trial's replicas in ``confirm``, in [0, 1]. The version
    is an ensemble of ``members`` trainings, if they are several.
    """

    name: str
    study: str
    trial: int
    val_accuracy: float
    version: int
    decision: PromotionRecord | None
    promoted: bool
    already: bool
    members: int = 1


def promote(
    client: MlflowClient,
    study_name: str,
    settings: Settings,
    *,
    design: Design,
    policy: GatePolicy,
    train: Train,
    members: int = 1,
    force: bool = False,
    dataset: str | None = None,
) -> Promotion:
    """Put the choice of a study, confirmed by ``design``, before the gate of its model.

    Replicas of it and of the champion are trained by ``train``. If the gate says ``promote``, the
    choice becomes ``champion`` and the champion ``previous``; else it stays ``challenger``. ``force``
    moves the aliases whatever the gate says, also past a champion whose file cannot be read, and is
    written down. Nothing is registered before its file was fetched and loaded. With ``members`` the
    mean of so many trainings challenges, and is registered as one model. ``dataset`` says where the
    study's data lie now; they are looked for otherwise.

    Raises:
        MnistLabError: the study was not confirmed, or the champion is of other data.
        DataError: a model file or the data are not what they were; no alias is moved.
        BusyError: another promotion is under way.
    """
    candidate = find_candidate(settings, study_name, design, members)
    name, record = candidate.name, candidate.record
    with lock_model(settings, name) as lock:
        finish_pending(client, name)
        champion = find_holder(client, name, CHAMPION)
        if champion is not None and is_of(champion, candidate):
            return _result(candidate, int(champion.version), None)
        if members > 1:
            _require_possible(client, candidate.contender, policy, force=force)
        require_same_data(champion, record, force=force)
        data = load_original_dataset(record, settings, dataset)
        contest = Contest(
            client=client,
            settings=settings,
            candidate=candidate,
            opponent=find_opponent(client, champion, candidate, settings, force=force),
            data=data,
            labels={part: part_labels(data, part) for part in PROMOTE_PARTS},
            sealed=find_test_split(
                data.source, image_size=record.image_size, data_folder=settings.data_folder
            ),
            policy=policy,
            train=train,
            lock=lock,
        )
        decision = _decide(contest, champion, force=force)
        if decision.promoted:
            lock.verify()
            _make_champion(client, name, decision)
    return _result(candidate, decision.version, decision)


def require_promotable(
    client: MlflowClient,
    study_name: str,
    settings: Settings,
    *,
    design: Design,
    policy: GatePolicy,
    members: int = 1,
    force: bool = False,
) -> None:
    """Raise before ``confirm`` what ``promote`` would refuse whichever trial ``confirm`` chooses.

    Raises:
        MnistLabError: the champion is of other data, or no such ensemble of the best can be promoted.
    """
    study = open_study(settings, study_name)
    champion = find_holder(client, model_name(study.record), CHAMPION)
    require_same_data(champion, study.record, force=force)
    best = [Contender(search=study, trial=each.of, members=members) for each in design.first(study)]
    if best and members > 1:
        smallest = min(best, key=lambda each: each.costs().parameters)
        _require_possible(client, smallest, policy, force=force)


def _require_possible(
    client: MlflowClient, contender: Contender, policy: GatePolicy, *, force: bool
) -> None:
    """Raise ``MnistLabError`` for an ensemble that the gate or MLflow would not take in the end."""
    parameters, most = contender.costs().parameters, policy.maximum_parameters
    if parameters > most and not force:
        raise MnistLabError(
            f"An ensemble of {contender.members} trainings of trial {contender.trial} would have "
            f"{parameters:,} parameters, and the gate allows {most:,}.",
            safe="No ensemble was trained or registered.",
            next_step="Give --ensemble fewer members, or leave it out.",
        )
    if not has_page(client, contender.search.record):
        raise MnistLabError(
            f"The page of study {contender.study!r} in MLflow is gone, and an ensemble stands on it.",
            safe="No ensemble was trained or registered.",
            next_step=f"Type: mnist-lab sync {contender.study}",
        )


def _result(candidate: Candidate, version: int, decision: PromotionRecord | None) -> Promotion:
    choice = candidate.confirmation.choice
    return Promotion(
        name=candidate.name,
        study=candidate.contender.study,
        trial=choice.trial,
        val_accuracy=choice.val_accuracy,
        version=version,
        decision=decision,
        promoted=decision is not None and decision.promoted,
        already=decision is None,
        members=candidate.contender.members,
    )


def _decide(contest: Contest, champion: ModelVersion | None, *, force: bool) -> PromotionRecord:
    """Return the gate's decision; an earlier one of the same two by the same policy stands."""
    client, candidate = contest.client, contest.candidate
    before = None if champion is None else int(champion.version)
    decision, facts = _find_decision(contest, before), None
    if decision is None or (force and decision.accuracy is None):
        challenge = _begin(contest, before)
        examined = examine(contest, before, challenge, force=force)
        decision, facts = examined.decision, examined.facts
        if challenge is not None:
            judgement = decision.judgement
            verdict = FORCED if judgement.test is None else judgement.verdict
            contest.lock.verify()
            finish_challenge(client, candidate.name, contest.sealed.digest, challenge, verdict)
    compared = before is None or decision.opponent is not None
    forced = force and (decision.judgement.verdict != "promote" or not compared)
    is_other, decision = forced != decision.forced, replace(decision, forced=forced)
    version = client.get_model_version(candidate.name, str(decision.version))
    move(client, candidate.name, f"challenger from {candidate.contender.study}",
         {CHALLENGER: decision.version})  # fmt: skip
    if facts is not None:  # before the decision, which would not be made again
        write_card(client, version, {**facts, "decision": asdict(decision)})
    elif is_other:
        rewrite_card(client, version, decision)
    write_decision(client, version, decision)
    return decision


def _find_decision(contest: Contest, champion: int | None) -> PromotionRecord | None:
    against = None if contest.opponent is None else contest.opponent.version
    for version in versions_named(contest.client, contest.candidate.name):
        found = read_decision(version) if is_of(version, contest.candidate) else None
        if found is not None and (found.champion, found.opponent, found.policy) == (
            champion, against, contest.policy,
        ):  # fmt: skip
            return found
    return None


def _begin(contest: Contest, champion: int | None) -> Challenge | None:
    if champion is None:
        return None
    candidate = contest.candidate
    contest.lock.verify()
    return begin_challenge(
        contest.client,
        candidate.name,
        contest.sealed.digest,
        Challenger(
            study=candidate.contender.study,
            study_id=candidate.record.id,
            trial=candidate.contender.trial,
            champion=champion,
            policy=digest_policy(contest.policy),
            members=candidate.contender.members,
        ),
        contest.policy,
        dataset_digest=candidate.record.dataset_digest,
    )


def _make_champion(client: MlflowClient, name: str, decision: PromotionRecord) -> None:
    aliases = {CHALLENGER: None, CHAMPION: decision.version}
    if decision.champion is not None:
        aliases[PREVIOUS] = decision.champion
    by_margin = decision.judgement.by_margin and not decision.forced
    best = decision.opponent if by_margin else decision.version
    number = str(decision.version)
    client.set_model_version_tag(name, number, f"{TAG}best_champion", str(best))
    why = "forced" if decision.forced else decision.judgement.reason
    move(client, name, f"promote: {why}", aliases)
