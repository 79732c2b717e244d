"""``promote``: a study's confirmed choice becomes champion, if the gate lets it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import optuna
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from mnist_lab.errors import MnistLabError, UnknownNameError
from mnist_lab.registry.aliases import find_holder, hold_model, move, settle
from mnist_lab.registry.card import write_card
from mnist_lab.registry.decision import Decision, read_decision, write_decision
from mnist_lab.registry.gate import GatePolicy, judge
from mnist_lab.registry.models import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    TrialModel,
    find_trial_model,
    verify_version,
)
from mnist_lab.registry.testing import hold_contest
from mnist_lab.settings import Settings
from mnist_lab.sweep import Confirmation, ledger, open_study, read_confirmation
from mnist_lab.sweep.replicas import confirm_name
from mnist_lab.sweep.study import Fingerprint, read_fingerprint
from mnist_lab.tracking.mlflow_tracker import TAG


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What came of it. ``decision`` is None if the model had been champion before; ``already`` says
    that it was champion all the time."""

    name: str
    study: str
    trial: int
    val_accuracy: float
    version: int
    decision: Decision | None
    promoted: bool
    already: bool


def promote(
    client: MlflowClient,
    study_name: str,
    settings: Settings,
    *,
    policy: GatePolicy | None = None,
    force: bool = False,
) -> Promotion:
    """Put the confirmed choice of a study before the gate of ``<dataset>-<family>``.

    It is registered, with the alias ``challenger``, and held against the champion on the sealed images.
    If the gate says ``promote``, it becomes ``champion`` and the champion ``previous``; else it stays
    ``challenger``. ``force`` moves the aliases whatever the gate says, and is written down.

    Raises:
        MnistLabError: the study was not confirmed, or the champion is of other data.
        DataError: a model file is not what was logged; no alias is moved.
        BusyError: another promotion is under way.
    """
    study = open_study(settings, study_name)
    made_with, confirmation = read_fingerprint(study), read_confirmation(study)
    if made_with is None or confirmation is None:
        raise MnistLabError(
            f"Study {study_name!r} is not confirmed.",
            safe="Nothing was registered.",
            next_step=f"Type: mnist-lab confirm {study_name}",
        )
    name, policy = f"{made_with.dataset}-{made_with.family}", policy or GatePolicy()
    model = find_choice(client, study, confirmation, settings)
    with hold_model(settings, name):
        settle(client, name)
        champion = find_holder(client, name, CHAMPION)
        _require_same_data(champion, made_with, force=force)
        version = _register(client, name, model, made_with, confirmation)
        number, before = int(version.version), int(champion.version) if champion else None
        already, decision = number == before, None
        if not already:
            verify_version(client, version)
            move(client, name, f"challenger from {study_name}", {CHALLENGER: number})
            decision = _decide(
                client, version, champion, model, made_with, confirmation, settings, policy, force
            )
        if decision is not None and decision.promoted:
            how = "forced" if decision.forced else decision.judgement.reason
            taken = {CHALLENGER: None, CHAMPION: number}
            aliases = taken if before is None else {**taken, PREVIOUS: before}
            move(client, name, f"promote: {how}", aliases)
    return Promotion(
        name=name,
        study=study_name,
        trial=confirmation.chosen,
        val_accuracy=confirmation.choice.mean,
        version=number,
        decision=decision,
        promoted=decision is not None and decision.promoted,
        already=already,
    )


def find_choice(
    client: MlflowClient, study: optuna.Study, confirmation: Confirmation, settings: Settings
) -> TrialModel:
    """The model of the chosen configuration's best replica.

    Raises:
        UnknownNameError: none was logged.
    """
    replicas = open_study(settings, confirm_name(study.study_name))
    for trial in ledger.rank(replicas):
        if ledger.read_replica_of(trial) == confirmation.chosen:
            return find_trial_model(client, ledger.find_run(replicas, trial.number))
    raise UnknownNameError("replica of trial", str(confirmation.chosen), ())


def _decide(
    client: MlflowClient,
    version: ModelVersion,
    champion: ModelVersion | None,
    model: TrialModel,
    made_with: Fingerprint,
    confirmation: Confirmation,
    settings: Settings,
    policy: GatePolicy,
    force: bool,
) -> Decision:
    """The gate's decision; one that was made of the same two by the same policy stands, and does not
    open the sealed images again."""
    before = int(champion.version) if champion else None
    stands, contest = read_decision(version), None
    if stands is not None and (stands.champion, stands.policy) == (before, policy):
        decision = stands
    else:
        rival = find_trial_model(client, str(champion.run_id)) if champion else None
        contest = hold_contest(client, model, rival, made_with, settings)
        right = contest.champion.predicted == contest.labels if contest.champion else None
        decision = Decision(
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            version=int(version.version),
            champion=before,
            forced=False,
            accuracy=contest.test.evaluation.accuracy,
            champion_accuracy=None if right is None else float(right.mean()),
            openings=contest.test.openings,
            policy=policy,
            judgement=judge(contest.challenger, contest.champion, contest.labels, policy),
        )
    forced = force and decision.judgement.verdict != "promote"
    decision = replace(decision, forced=forced)
    if contest is not None:  # before the decision, which would not be made again
        scores = contest.test.evaluation
        write_card(client, version, model, decision, scores, confirmation, settings)
    write_decision(client, version, decision)
    return decision


def _require_same_data(
    champion: ModelVersion | None, made_with: Fingerprint, *, force: bool
) -> None:
    theirs = champion.tags.get(f"{TAG}dataset_digest") if champion is not None else None
    if theirs not in (None, made_with.dataset_digest) and not force:
        raise MnistLabError(
            "The champion was validated on other images: the two accuracies cannot be compared.",
            safe="Nothing was registered.",
            next_step="To promote this one all the same: --force",
        )


def _register(
    client: MlflowClient,
    name: str,
    model: TrialModel,
    made_with: Fingerprint,
    confirmation: Confirmation,
) -> ModelVersion:
    """A version of this model; the one there is when a promotion was cut off after making it."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, tags={f"{TAG}family": made_with.family})
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(f"{TAG}sha256") == model.sha256 and version.run_id == model.run:
            return version
    choice = confirmation.choice
    return client.create_model_version(
        name,
        source=f"models:/{model.model}",
        run_id=model.run,
        model_id=model.model,
        tags={
            f"{TAG}study": confirmation.study,
            f"{TAG}trial": str(choice.trial),
            f"{TAG}replica": str(model.trial),
            f"{TAG}run": model.run,
            f"{TAG}space": made_with.space,
            f"{TAG}space_digest": made_with.space_digest,
            f"{TAG}dataset": made_with.dataset,
            f"{TAG}dataset_digest": made_with.dataset_digest,
            f"{TAG}sha256": model.sha256,
            f"{TAG}val_accuracy": repr(choice.mean),
            f"{TAG}val_accuracy_low": repr(choice.low),
            f"{TAG}val_accuracy_high": repr(choice.high),
        },
        description=f"Trial {choice.trial} of study {confirmation.study}: validation "
        f"{choice.mean:.2%}, the mean of {confirmation.seeds} fresh seeds.",
    )
