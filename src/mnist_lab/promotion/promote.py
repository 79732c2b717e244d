"""``promote``: make a study's confirmed choice champion, if it passes the gate."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from mnist_lab.config import describe_value
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
from mnist_lab.promotion.aliases import find_holder, finish_pending, lock_model, move
from mnist_lab.promotion.card import gather, write_card
from mnist_lab.promotion.decision import PromotionRecord, read_decision, write_decision
from mnist_lab.promotion.gate import GatePolicy, judge
from mnist_lab.promotion.sealed_test import score_both
from mnist_lab.settings import Settings
from mnist_lab.study import (
    Confirmation,
    Design,
    Ledger,
    confirm_name,
    open_study,
    read_confirmation,
)
from mnist_lab.tracking import TAG, StudyRecord


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The result of ``promote``; ``already`` if the model was champion before, with no decision made.

    ``val_accuracy`` is the mean of the chosen trial's replicas, in [0, 1].
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
    """The ``model`` that a study offers: the best replica of its chosen trial."""

    record: StudyRecord
    confirmation: Confirmation
    study_id: str
    model: ModelFile

    @property
    def name(self) -> str:
        return model_name(self.record)


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
    force: bool = False,
    dataset: str | None = None,
) -> Promotion:
    """Put the choice of a study, confirmed by ``design``, before the gate of its model.

    It is registered, with the alias ``challenger``, and held against the champion on the sealed images.
    If the gate says ``promote``, it becomes ``champion`` and the champion ``previous``; else it stays
    ``challenger``. ``force`` moves the aliases whatever the gate says, also past a champion whose file
    cannot be read, and is written down. Nothing is registered before its file was fetched and loaded.
    ``dataset`` says where the study's data lie now; they are looked for otherwise.

    Raises:
        MnistLabError: the study was not confirmed, or the champion is of other data.
        DataError: a model file or the data are not what they were; no alias is moved.
        BusyError: another promotion is under way.
    """
    candidate = _find_candidate(client, open_study(settings, study_name), design, settings)
    name, decision = candidate.name, None
    with lock_model(settings, name):
        finish_pending(client, name)
        champion = find_holder(client, name, CHAMPION)
        _require_same_data(champion, candidate.record, force=force)
        found = _find_registered(client, candidate)
        already = bool(found and champion and found.version == champion.version)
        if not already:  # looked at before it is registered
            load(client, candidate.model, settings)
        version = found or _register(client, candidate)
        if not already:
            number = int(version.version)
            move(client, name, f"challenger from {study_name}", {CHALLENGER: number})
            decision = _decide(
                client, version, champion, candidate, settings, policy, force=force, dataset=dataset
            )
        if decision is not None and decision.promoted:
            _make_champion(client, name, decision)
    choice = candidate.confirmation.choice
    return Promotion(
        name=name,
        study=study_name,
        trial=choice.trial,
        val_accuracy=choice.val_accuracy,
        version=int(version.version),
        decision=decision,
        promoted=decision is not None and decision.promoted,
        already=already,
    )


def _find_candidate(
    client: MlflowClient, study: Ledger, design: Design, settings: Settings
) -> Candidate:
    record, confirmation = study.record, read_confirmation(study, design)
    if confirmation is None:
        words = f"{study.name} --top {design.top} --seeds {design.seeds}"
        raise MnistLabError(
            f"Study {study.name!r} is not confirmed.",
            safe="Nothing was registered.",
            next_step=f"Type: mnist-lab confirm {words}",
        )
    replicas = open_study(settings, confirm_name(study.name))
    for trial in replicas.ranked():
        if trial.replica_of == confirmation.chosen:
            return Candidate(
                record=record,
                confirmation=confirmation,
                study_id=record.id,
                model=_find_model(client, model_name(record), record, replicas, trial.number),
            )
    raise UnknownNameError("replica of trial", str(confirmation.chosen), ())


def _find_model(
    client: MlflowClient, name: str, record: StudyRecord, replicas: Ledger, replica: int
) -> ModelFile:
    """A replica's model: that of the version made of it, if there is one, for its run may be gone."""
    tracked = replicas.tracked().get(replica)
    for version in versions_named(client, name):
        of = version.tags.get(f"{TAG}study_id"), version.tags.get(f"{TAG}replica")
        if of == (record.id, str(replica)) or (tracked and version.run_id == tracked.run):
            return find_version_model(client, version)
    return find_trial_model(client, replicas.find_run(replica))


def _decide(
    client: MlflowClient,
    version: ModelVersion,
    champion: ModelVersion | None,
    candidate: Candidate,
    settings: Settings,
    policy: GatePolicy,
    *,
    force: bool,
    dataset: str | None,
) -> PromotionRecord:
    """Return the gate's decision; an earlier one of the same two by the same policy stands.

    Then the sealed images are not opened again.
    """
    before = int(champion.version) if champion else None
    decision, scores = read_decision(version), None
    if decision is None or not _stands(decision, before, policy):
        study = candidate.confirmation.study
        opponent = _find_champion(client, champion, study, settings, force=force)
        both = score_both(
            client, candidate.model, opponent, candidate.record, settings, dataset=dataset
        )
        right = both.champion.predicted == both.labels if both.champion else None
        scores = both.test.evaluation
        decision = PromotionRecord(
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            version=int(version.version),
            champion=before,
            forced=False,
            accuracy=scores.accuracy,
            champion_accuracy=None if right is None else float(right.mean()),
            openings=both.test.openings,
            policy=policy,
            judgement=judge(both.challenger, both.champion, both.labels, policy),
        )
        if champion is not None and opponent is None:
            why = "the champion's file cannot be read, so the two were not compared"
            decision = replace(decision, judgement=replace(decision.judgement, reason=why))
    compared = before is None or decision.champion_accuracy is not None
    forced = force and (decision.judgement.verdict != "promote" or not compared)
    decision = replace(decision, forced=forced)
    if scores is not None:  # before the decision, which would not be made again
        model, confirmation = candidate.model, candidate.confirmation
        write_card(
            client, version, gather(version, model, decision, scores, confirmation, settings)
        )
    write_decision(client, version, decision)
    return decision


def _stands(decision: PromotionRecord, champion: int | None, policy: GatePolicy) -> bool:
    """Whether a decision was made of the same two, both measured, by the same policy."""
    compared = champion is None or decision.champion_accuracy is not None
    return compared and (decision.champion, decision.policy) == (champion, policy)


def _find_champion(
    client: MlflowClient,
    champion: ModelVersion | None,
    study: str,
    settings: Settings,
    *,
    force: bool,
) -> ModelFile | None:
    """The champion's model; by force None for one whose file cannot be read."""
    if champion is None:
        return None
    try:
        verify_version(client, champion, settings)
    except DataError as error:
        if force:
            return None
        error.next_step = (
            "Bring the champion's file back from a copy, or promote without comparing: "
            f"mnist-lab promote {study} --force"
        )
        raise
    return find_version_model(client, champion)


def _make_champion(client: MlflowClient, name: str, decision: PromotionRecord) -> None:
    aliases = {CHALLENGER: None, CHAMPION: decision.version}
    if decision.champion is not None:
        aliases[PREVIOUS] = decision.champion
    why = "forced" if decision.forced else decision.judgement.reason
    move(client, name, f"promote: {why}", aliases)


def _require_same_data(champion: ModelVersion | None, record: StudyRecord, *, force: bool) -> None:
    theirs = champion.tags.get(f"{TAG}dataset_digest") if champion is not None else None
    if theirs not in (None, record.dataset_digest) and not force:
        raise MnistLabError(
            "The champion was validated on other images: the two accuracies cannot be compared.",
            safe="Nothing was registered.",
            next_step="To promote this one all the same: --force",
        )


def _find_registered(client: MlflowClient, candidate: Candidate) -> ModelVersion | None:
    """Find the version of this model: promoted before, or interrupted after it was made."""
    for version in versions_named(client, candidate.name):
        found = version.tags.get(f"{TAG}sha256"), version.run_id
        if found == (candidate.model.sha256, candidate.model.run):
            return version
    return None


def _register(client: MlflowClient, candidate: Candidate) -> ModelVersion:
    """Make a version of this model."""
    name, model, record = candidate.name, candidate.model, candidate.record
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, tags={f"{TAG}family": record.family})
    confirmation, choice = candidate.confirmation, candidate.confirmation.choice
    return client.create_model_version(
        name,
        source=f"models:/{model.model}",
        run_id=model.run,
        model_id=model.model,
        tags={
            f"{TAG}study": confirmation.study,
            f"{TAG}study_id": candidate.study_id,
            f"{TAG}trial": str(choice.trial),
            f"{TAG}replica": str(model.trial),
            f"{TAG}run": model.run,
            f"{TAG}space": record.space,
            f"{TAG}space_digest": record.space_digest,
            f"{TAG}dataset": record.dataset,
            f"{TAG}dataset_digest": record.dataset_digest,
            f"{TAG}sha256": model.sha256,
            **({f"{TAG}blueprint": model.blueprint.to_json()} if model.blueprint else {}),
            f"{TAG}val_accuracy": repr(choice.val_accuracy),
            f"{TAG}objective": confirmation.objective,
            f"{TAG}{confirmation.objective}_low": repr(choice.low),
            f"{TAG}{confirmation.objective}_high": repr(choice.high),
        },
        description=f"Trial {choice.trial} of study {confirmation.study}: {confirmation.objective} "
        f"{describe_value(confirmation.objective, choice.mean)}, the mean of "
        f"{confirmation.seeds} fresh seeds.",
    )
