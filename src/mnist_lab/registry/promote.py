"""``promote``: a study's confirmed choice becomes champion, if the gate lets it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import optuna
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from mnist_lab.errors import MnistLabError, UnknownNameError
from mnist_lab.registry.aliases import find_holder, hold_model, move, settle
from mnist_lab.registry.card import gather, write_card
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
from mnist_lab.sweep import Confirmation, Design, ledger, open_study, read_confirmation
from mnist_lab.sweep.replicas import confirm_name
from mnist_lab.sweep.study import Fingerprint, read_fingerprint
from mnist_lab.tracking.tags import TAG


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What came of it; ``already`` says that the model was champion before, and nothing was decided.

    ``val_accuracy`` is the mean of the chosen trial's replicas, in [0, 1].
    """

    name: str
    study: str
    trial: int
    val_accuracy: float
    version: int
    decision: Decision | None
    promoted: bool
    already: bool


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a study puts forward: the ``model`` of the best replica of its chosen trial."""

    made_with: Fingerprint
    confirmation: Confirmation
    model: TrialModel

    @property
    def name(self) -> str:
        return model_name(self.made_with)


def model_name(made_with: Fingerprint) -> str:
    """The registered model that a study's choice becomes a version of."""
    return f"{made_with.dataset}-{made_with.family}"


def promote(
    client: MlflowClient,
    study_name: str,
    settings: Settings,
    *,
    design: Design,
    policy: GatePolicy,
    force: bool = False,
) -> Promotion:
    """Put the choice of a study, confirmed by ``design``, before the gate of its model.

    It is registered, with the alias ``challenger``, and held against the champion on the sealed images.
    If the gate says ``promote``, it becomes ``champion`` and the champion ``previous``; else it stays
    ``challenger``. ``force`` moves the aliases whatever the gate says, and is written down.

    Raises:
        MnistLabError: the study was not confirmed, or the champion is of other data.
        DataError: a model file is not what was logged; no alias is moved.
        BusyError: another promotion is under way.
    """
    candidate = _find_candidate(client, open_study(settings, study_name), design, settings)
    name, decision = candidate.name, None
    with hold_model(settings, name):
        settle(client, name)
        champion = find_holder(client, name, CHAMPION)
        _require_same_data(champion, candidate.made_with, force=force)
        version = _register(client, candidate)
        already = champion is not None and champion.version == version.version
        if not already:
            verify_version(client, version)
            number = int(version.version)
            move(client, name, f"challenger from {study_name}", {CHALLENGER: number})
            decision = _decide(client, version, champion, candidate, settings, policy, force=force)
        if decision is not None and decision.promoted:
            _crown(client, name, decision)
    choice = candidate.confirmation.choice
    return Promotion(
        name=name,
        study=study_name,
        trial=choice.trial,
        val_accuracy=choice.mean,
        version=int(version.version),
        decision=decision,
        promoted=decision is not None and decision.promoted,
        already=already,
    )


def _find_candidate(
    client: MlflowClient, study: optuna.Study, design: Design, settings: Settings
) -> Candidate:
    made_with, confirmation = read_fingerprint(study), read_confirmation(study, design)
    if made_with is None or confirmation is None:
        words = f"{study.study_name} --top {design.top} --seeds {design.seeds}"
        raise MnistLabError(
            f"Study {study.study_name!r} is not confirmed.",
            safe="Nothing was registered.",
            next_step=f"Type: mnist-lab confirm {words}",
        )
    replicas = open_study(settings, confirm_name(study.study_name))
    for trial in ledger.rank(replicas):
        if ledger.read_replica_of(trial) == confirmation.chosen:
            model = find_trial_model(client, ledger.find_run(replicas, trial.number))
            return Candidate(made_with=made_with, confirmation=confirmation, model=model)
    raise UnknownNameError("replica of trial", str(confirmation.chosen), ())


def _decide(
    client: MlflowClient,
    version: ModelVersion,
    champion: ModelVersion | None,
    candidate: Candidate,
    settings: Settings,
    policy: GatePolicy,
    *,
    force: bool,
) -> Decision:
    """The gate's decision; one that was made of the same two by the same policy stands, and does not
    open the sealed images again."""
    before = int(champion.version) if champion else None
    decision, scores = read_decision(version), None
    if decision is None or (decision.champion, decision.policy) != (before, policy):
        rival = find_trial_model(client, str(champion.run_id)) if champion else None
        contest = hold_contest(client, candidate.model, rival, candidate.made_with, settings)
        right = contest.champion.predicted == contest.labels if contest.champion else None
        scores = contest.test.evaluation
        decision = Decision(
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            version=int(version.version),
            champion=before,
            forced=False,
            accuracy=scores.accuracy,
            champion_accuracy=None if right is None else float(right.mean()),
            openings=contest.test.openings,
            policy=policy,
            judgement=judge(contest.challenger, contest.champion, contest.labels, policy),
        )
    forced = force and decision.judgement.verdict != "promote"
    decision = replace(decision, forced=forced)
    if scores is not None:  # before the decision, which would not be made again
        model, confirmation = candidate.model, candidate.confirmation
        write_card(
            client, version, gather(version, model, decision, scores, confirmation, settings)
        )
    write_decision(client, version, decision)
    return decision


def _crown(client: MlflowClient, name: str, decision: Decision) -> None:
    aliases = {CHALLENGER: None, CHAMPION: decision.version}
    if decision.champion is not None:
        aliases[PREVIOUS] = decision.champion
    why = "forced" if decision.forced else decision.judgement.reason
    move(client, name, f"promote: {why}", aliases)


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


def _register(client: MlflowClient, candidate: Candidate) -> ModelVersion:
    """A version of this model; the one there is when a promotion was cut off after making it."""
    name, model, made_with = candidate.name, candidate.model, candidate.made_with
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, tags={f"{TAG}family": made_with.family})
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(f"{TAG}sha256") == model.sha256 and version.run_id == model.run:
            return version
    confirmation, choice = candidate.confirmation, candidate.confirmation.choice
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
