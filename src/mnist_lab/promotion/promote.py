"""``promote``: make a study's confirmed choice champion, if it passes the gate.

The choice and the champion are compared by replicas: trainings of the same configuration, each without
one part of the public images. Up to three rounds are trained. Who is behind on the public images after
a round is turned away; only who is not meets the sealed images, once. What was trained, predicted or
counted is kept at once, so an interrupted promotion goes on where it was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import zip_longest

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from mnist_lab.config import describe_value
from mnist_lab.data import part_labels
from mnist_lab.data.sealed import SealedSplit, find_test_split
from mnist_lab.errors import DataError, MnistLabError, UnknownNameError
from mnist_lab.models import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    ModelFile,
    find_trial_model,
    find_version_model,
    load,
    verify_version,
    versions_named,
)
from mnist_lab.promotion.aliases import find_holder, finish_pending, move
from mnist_lab.promotion.card import gather, write_card
from mnist_lab.promotion.challenge import (
    Challenge,
    Challenger,
    begin_challenge,
    digest_policy,
    finish_challenge,
)
from mnist_lab.promotion.contender import Contender
from mnist_lab.promotion.decision import PromotionRecord, read_decision, write_decision
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
    Costs,
    GatePolicy,
    Judgement,
    judge,
    judge_first,
    judge_unopened,
)
from mnist_lab.promotion.sealed_test import Entry, measure_costs, open_for, read_sealed, score
from mnist_lab.settings import Settings
from mnist_lab.study import (
    PROMOTE_PARTS,
    Confirmation,
    Design,
    Ledger,
    Replica,
    load_original_dataset,
    load_original_space,
    lock_model,
    open_study,
    read_confirmation,
)
from mnist_lab.tracking import TAG, StudyRecord
from mnist_lab.tracking.runs import experiment_name, find_runs

# Trains replicas of a study on the data at a path; when it returns, each has finished, and MLflow has
# its model.
Train = Callable[[str, Sequence[Replica], str], None]


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The result of ``promote``; ``already`` if the model was champion before, with no decision made.

    ``val_accuracy`` is the mean of the chosen trial's replicas in ``confirm``, in [0, 1].
    """

    name: str
    study: str
    trial: int
    val_accuracy: float
    version: int
    decision: PromotionRecord | None
    promoted: bool
    already: bool


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a study offers: its confirmed choice."""

    record: StudyRecord
    confirmation: Confirmation
    contender: Contender

    @property
    def name(self) -> str:
        return model_name(self.record)


@dataclass(frozen=True, kw_only=True)
class Opponent:
    """The version that a challenger is compared with: the best champion so far.

    ``contender`` is None where its study is gone or cannot be trained again: then its ``model`` file
    alone is compared, on the sealed images.
    """

    version: int
    model: ModelFile
    contender: Contender | None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All that a challenge needs: who, against whom, on which images, and a way to train."""

    client: MlflowClient
    settings: Settings
    candidate: Candidate
    opponent: Opponent | None
    labels: Mapping[int, NDArray[np.uint8]]  # of the public parts
    sealed: SealedSplit
    source: str  # of the data
    policy: GatePolicy
    train: Train

    @property
    def purpose(self) -> str:
        """What the sealed images are opened for; a changed policy is no other purpose."""
        against = "first" if self.opponent is None else str(self.opponent.version)
        return f"{self.candidate.record.id[:16]}.{self.candidate.contender.trial}.{against}"


def model_name(record: StudyRecord) -> str:
    """Return the name of the registered model for a study's choice, as MLflow accepts it."""
    return re.sub(r"[/:@'\"`]", "-", f"{record.dataset}-{record.family}")


def promote(
    client: MlflowClient,
    study_name: str,
    settings: Settings,
    *,
    design: Design,
    policy: GatePolicy,
    train: Train,
    force: bool = False,
    dataset: str | None = None,
) -> Promotion:
    """Put the choice of a study, confirmed by ``design``, before the gate of its model.

    Replicas of it and of the champion are trained by ``train``. If the gate says ``promote``, the choice
    becomes ``champion`` and the champion ``previous``; else it stays ``challenger``. ``force`` moves the
    aliases whatever the gate says, also past a champion whose file cannot be read, and is written down.
    Nothing is registered before its file was fetched and loaded. ``dataset`` says where the study's data
    lie now; they are looked for otherwise.

    Raises:
        MnistLabError: the study was not confirmed, or the champion is of other data.
        DataError: a model file or the data are not what they were; no alias is moved.
        BusyError: another promotion is under way.
    """
    candidate = _find_candidate(settings, study_name, design)
    name, record = candidate.name, candidate.record
    with lock_model(settings, name):
        finish_pending(client, name)
        champion = find_holder(client, name, CHAMPION)
        if champion is not None and _is_of(champion, candidate):
            return _result(candidate, int(champion.version), None)
        _require_same_data(champion, record, force=force)
        data = load_original_dataset(record, settings, dataset)
        contest = Contest(
            client=client,
            settings=settings,
            candidate=candidate,
            opponent=_find_opponent(client, champion, candidate, settings, force=force),
            labels={part: part_labels(data, part) for part in PROMOTE_PARTS},
            sealed=find_test_split(
                data.source, image_size=record.image_size, data_folder=settings.data_folder
            ),
            source=data.source,
            policy=policy,
            train=train,
        )
        decision = _decide(contest, champion, force=force)
        if decision.promoted:
            _make_champion(client, name, decision)
    return _result(candidate, decision.version, decision)


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
    )


# Who meets whom


def _find_candidate(settings: Settings, name: str, design: Design) -> Candidate:
    study = open_study(settings, name)
    confirmation = read_confirmation(study, design)
    if confirmation is None:
        raise MnistLabError(
            f"Study {name!r} is not confirmed.",
            safe="Nothing was registered.",
            next_step=f"Type: mnist-lab confirm {name} --top {design.top}",
        )
    return Candidate(
        record=study.record,
        confirmation=confirmation,
        contender=Contender(search=study, trial=confirmation.chosen),
    )


def _is_of(version: ModelVersion, candidate: Candidate) -> bool:
    """Return whether a version was made of the candidate's trial."""
    trial = version.tags.get(f"{TAG}trial")
    return trial == str(candidate.contender.trial) and _is_of_study(version, candidate.record)


def _is_of_study(version: ModelVersion, record: StudyRecord) -> bool:
    """Return whether a version comes from a study; the first versions have only its name."""
    found = version.tags.get(f"{TAG}study"), version.tags.get(f"{TAG}study_id", record.id)
    return found == (record.name, record.id)


def _find_opponent(
    client: MlflowClient,
    champion: ModelVersion | None,
    candidate: Candidate,
    settings: Settings,
    *,
    force: bool,
) -> Opponent | None:
    """The best champion so far; by force None for one whose file cannot be read, or of other data."""
    if champion is None:
        return None
    best = champion.tags.get(f"{TAG}best_champion", str(champion.version))
    version = client.get_model_version(champion.name, best)
    if version.tags.get(f"{TAG}dataset_digest") not in (None, candidate.record.dataset_digest):
        return None
    try:
        verify_version(client, version, settings)
    except DataError as error:
        if force:
            return None
        error.next_step = (
            "Bring the champion's file back from a copy, or promote without comparing: "
            f"mnist-lab promote {candidate.contender.study} --force"
        )
        raise
    return Opponent(
        version=int(version.version),
        model=find_version_model(client, version),
        contender=_find_contender(client, version, candidate.record, settings),
    )


def _find_contender(
    client: MlflowClient, version: ModelVersion, record: StudyRecord, settings: Settings
) -> Contender | None:
    """The trial of a version, in its study; None where that is gone, or was made anew since."""
    name, trial = version.tags.get(f"{TAG}study", ""), version.tags.get(f"{TAG}trial", "")
    try:
        study = open_study(settings, name)
    except UnknownNameError:
        return None
    is_same = study.is_managed and _is_of_study(version, study.record)
    if not is_same or not trial.isdigit() or study.record.dataset_digest != record.dataset_digest:
        return None
    try:
        load_original_space(study.record)
    except MnistLabError:  # changed, or gone: it cannot be trained again
        return None
    if not _has_page(client, study.record):  # deleted: MLflow cannot take its replicas
        return None
    return Contender(search=study, trial=int(trial))


def _has_page(client: MlflowClient, record: StudyRecord) -> bool:
    experiment = client.get_experiment_by_name(experiment_name(record.dataset, record.family))
    if experiment is None or experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        return False
    pages = f"tags.`{TAG}study_id` = '{record.page}' AND tags.`{TAG}level` = 'study'"
    return bool(find_runs(client, [experiment.experiment_id], pages))


def _require_same_data(champion: ModelVersion | None, record: StudyRecord, *, force: bool) -> None:
    theirs = champion.tags.get(f"{TAG}dataset_digest") if champion is not None else None
    if theirs not in (None, record.dataset_digest) and not force:
        raise MnistLabError(
            "The champion was validated on other images: the two accuracies cannot be compared.",
            safe="Nothing was registered.",
            next_step="To promote this one all the same: --force",
        )


# The challenge


def _decide(contest: Contest, champion: ModelVersion | None, *, force: bool) -> PromotionRecord:
    """Return the gate's decision; an earlier one of the same two by the same policy stands."""
    client, candidate = contest.client, contest.candidate
    before = None if champion is None else int(champion.version)
    decision = _find_decision(contest, before)
    if decision is None or (force and decision.accuracy is None):
        challenge = _begin(contest, before)
        decision = _examine(contest, before, challenge, force=force)
        if challenge is not None:
            finish_challenge(
                client,
                candidate.name,
                contest.sealed.digest,
                challenge,
                decision.judgement.verdict,
            )
    compared = before is None or decision.opponent is not None
    forced = force and (decision.judgement.verdict != "promote" or not compared)
    decision = replace(decision, forced=forced)
    version = client.get_model_version(candidate.name, str(decision.version))
    move(client, candidate.name, f"challenger from {candidate.contender.study}",
         {CHALLENGER: decision.version})  # fmt: skip
    write_decision(client, version, decision)
    return decision


def _find_decision(contest: Contest, champion: int | None) -> PromotionRecord | None:
    against = None if contest.opponent is None else contest.opponent.version
    for version in versions_named(contest.client, contest.candidate.name):
        found = read_decision(version) if _is_of(version, contest.candidate) else None
        if found is not None and (found.champion, found.opponent, found.policy) == (
            champion, against, contest.policy,
        ):  # fmt: skip
            return found
    return None


def _begin(contest: Contest, champion: int | None) -> Challenge | None:
    if champion is None:
        return None
    candidate = contest.candidate
    return begin_challenge(
        contest.client,
        candidate.name,
        contest.sealed.digest,
        Challenger(
            study=candidate.contender.study,
            study_id=candidate.record.id,
            trial=candidate.contender.trial,
            ensemble=0,
            champion=champion,
            policy=digest_policy(contest.policy),
        ),
        contest.policy,
        dataset_digest=candidate.record.dataset_digest,
    )


def _examine(
    contest: Contest, champion: int | None, challenge: Challenge | None, *, force: bool
) -> PromotionRecord:
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
    entries = _entries(contest, contest.candidate.contender, rounds)
    if not entries:
        raise MnistLabError(
            f"No replica of trial {contest.candidate.contender.trial} could be trained.",
            safe="No alias was moved.",
            next_step=f"See why: mnist-lab leaderboard {contest.candidate.contender.study}+confirm",
        )
    version = _register(contest, entries[0].model)
    if public is not None and not force:
        assert challenge is not None
        judgement = judge_unopened(public, rounds, challenge.test)
        return replace(blank, version=int(version.version), judgement=judgement)
    return _open(contest, entries, rounds, blank, challenge, is_smaller=is_smaller)


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
        if theirs is None:
            return None, round_
        arms = mine.arm(round_, contest.labels), theirs.arm(round_, contest.labels)
        public = compare_public(*arms)
        if public is None:  # one of them could not be trained
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
) -> PromotionRecord:
    client, candidate, opponent = contest.client, contest.candidate, contest.opponent
    theirs: list[Entry] = []
    if opponent is not None and opponent.contender is not None:
        theirs = _entries(contest, opponent.contender, ROUNDS)
    file_only = opponent.model if opponent is not None and not theirs else None
    opened = open_for(
        client, [*entries, *theirs], contest.sealed, contest.purpose, contest.settings, file_only
    )
    wrong = read_sealed(entries, opened.test)
    shipped = entries[pick_shipped(wrong, list(range(len(wrong))))]
    version = _register(contest, shipped.model)  # another one, if it is not the first
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
    write_card(client, version, facts)
    return decision


def _entries(contest: Contest, contender: Contender, rounds: int) -> list[Entry]:
    """The replicas that predict the sealed images; of an opponent those whose model is still there."""
    ledger, trials = contender.ledger(), contender.replicas(rounds).values()
    name, found = contest.candidate.name, []
    try:
        models = [_find_model(contest.client, name, ledger, trial.number) for trial in trials]
    except MnistLabError:  # interrupted before MLflow had them: nothing is trained, they are logged
        contest.train(contender.study, (), contest.source)
        models = []
    for trial, known in zip_longest(trials, models):
        try:
            model = known or _find_model(contest.client, name, ledger, trial.number)
        except MnistLabError:
            if contender is contest.candidate.contender:
                raise
            continue
        found.append(Entry(ledger=ledger, trial=trial, model=model))
    return found


def _find_model(client: MlflowClient, name: str, replicas: Ledger, replica: int) -> ModelFile:
    """A replica's model: that of the version made of it, if there is one, for its run may be gone."""
    tracked = replicas.tracked().get(replica)
    for version in versions_named(client, name):
        of = version.tags.get(f"{TAG}replica"), version.tags.get(f"{TAG}replicas_id")
        if of == (str(replica), replicas.record.id) or (tracked and version.run_id == tracked.run):
            return find_version_model(client, version)
    return find_trial_model(client, replicas.find_run(replica))


def _is_smaller(contest: Contest) -> bool:
    """Whether the challenger costs at most a part of what the champion costs, by the search's trials."""
    opponent = contest.opponent
    if not contest.policy.margin or opponent is None or opponent.contender is None:
        return False
    mine, theirs = (
        _search_costs(each) for each in (contest.candidate.contender, opponent.contender)
    )
    return mine.is_smaller_than(theirs)


def _search_costs(contender: Contender) -> Costs:
    scalars = contender.search.trial(contender.trial).scalars
    return Costs(
        parameters=int(scalars["parameters"]),
        file_size=0,
        latency=float(scalars.get("latency_ms", math.inf)),
    )


# The registry


def _make_champion(client: MlflowClient, name: str, decision: PromotionRecord) -> None:
    aliases = {CHALLENGER: None, CHAMPION: decision.version}
    if decision.champion is not None:
        aliases[PREVIOUS] = decision.champion
    by_margin = decision.judgement.reason.startswith("smaller")
    best = decision.opponent if by_margin and not decision.forced else decision.version
    number = str(decision.version)
    client.set_model_version_tag(name, number, f"{TAG}best_champion", str(best))
    why = "forced" if decision.forced else decision.judgement.reason
    move(client, name, f"promote: {why}", aliases)


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
