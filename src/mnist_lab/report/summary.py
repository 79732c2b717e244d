"""What stands on a study's page when a sweep ends."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.data import CLASSES
from mnist_lab.execution import Blueprint, TrialFiles
from mnist_lab.study import (
    Confirmation,
    find_replicas,
    ledger,
    read_confirmation,
    read_fingerprint,
    searched_study,
    view,
)
from mnist_lab.tracking import ModelRecord, State, StudySummary, TrialRecord

TOP = 5
# Of two accuracies near 99.4 % on 10,000 images, each with a standard error of 0.077 points.
SINGLE_RUN_NOISE = 0.0015
# PED-ANOVA compares the best tenth with the rest; from fewer trials it says nothing.
MIN_TRIALS_FOR_IMPORTANCE = 10


@dataclass(frozen=True, kw_only=True)
class PruningReport:
    """What pruning saved, and what it may have cost.

    ``trained`` epochs were, ``saved`` ones were not. ``audited`` trials would have been pruned and
    were finished all the same; ``false`` of them ended better than the best that was let through.
    """

    trained: int
    saved: int
    audited: int
    false: int

    def __str__(self) -> str:
        of = self.trained + self.saved
        text = f"Pruning saved {self.saved:,} of {of:,} epochs ({self.saved / of:.0%})."
        if self.audited:
            text += (
                f" Of {self.audited} that were finished though they would have been pruned, "
                f"{self.false} ended better than the best that was kept."
            )
        return text


def report_pruning(study: optuna.Study) -> PruningReport | None:
    """None for a study of which nothing was pruned."""
    record = ledger.read_study(study)
    trials = ledger.own_trials(study)
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    if record is None or not pruned:
        return None
    ranked = ledger.rank(study)
    audited = [trial for trial in ranked if ledger.read_audited_at(trial) is not None]
    kept = max((t.value or 0.0 for t in ranked if t not in audited), default=1.0)
    epochs = int(record.settings["epochs"])
    return PruningReport(
        trained=sum(len(ledger.read_history(trial)) for trial in trials),
        saved=sum(epochs - len(ledger.read_history(trial)) for trial in pruned),
        audited=len(audited),
        false=sum((trial.value or 0.0) > kept for trial in audited),
    )


def summarise(study: optuna.Study) -> StudySummary:
    """Counts, the best trials and the importances; of a confirmation, those of what it confirms."""
    study = searched_study(study)
    stopped = ledger.read_stopped(study)
    trials = ledger.own_trials(study)
    counts = Counter(ledger.STATES.get(trial.state, "interrupted") for trial in trials)
    ranked = ledger.rank(study)
    metrics = {f"trials_{name}": float(counts[name]) for name in ("complete", "pruned", "failed")}
    pruning = report_pruning(study)
    if pruning is not None:
        metrics |= {
            "epochs_saved": float(pruning.saved),
            "trials_audited": float(pruning.audited),
            "false_prunes": float(pruning.false),
        }
    tags = {}
    if ranked:
        metrics |= ledger.read_scalars(ranked[0])
        tags["best_trial"] = str(ranked[0].number)
    confirmation, replicas = read_confirmation(study), find_replicas(study)
    if replicas is not None:  # or MLflow would take the higher of two confirmations for the newer
        trials = [*trials, *replicas.get_trials(deepcopy=False)]
    if confirmation is not None:
        metrics["confirmed_val_accuracy"] = confirmation.choice.mean
        tags["confirmed_trial"] = str(confirmation.chosen)
    shares = importances(study)
    note = [
        _note(study, counts, stopped),
        _note_importances(shares),
        _note_confirmation(confirmation),
    ]
    return StudySummary(
        state=study_state(study),
        ended=max(map(ledger.ended, trials), default=time.time()),
        metrics=metrics,
        tags=tags,
        note="\n\n".join(filter(None, note)),
        importances=shares,
    )


def interrupted_summary() -> StudySummary:
    """What can be said when the study cannot be read."""
    return StudySummary(
        state="interrupted",
        ended=time.time(),
        metrics={},
        tags={},
        note="The study's storage was lost while it was swept.",
        importances={},
    )


def study_state(study: optuna.Study) -> State:
    """How the study stands by what its last sweep wrote."""
    stopped = ledger.read_stopped(study)
    return "complete" if not stopped else "failed" if stopped.endswith("failed") else "interrupted"


def best_of_each(ranked: Sequence[FrozenTrial], top: int | None) -> list[FrozenTrial]:
    """The (``top``) best of ``ranked`` trials; of the replicas of one trial only the best counts."""
    found: dict[tuple[bool, int], FrozenTrial] = {}
    for trial in ranked:
        if len(found) == top:
            break
        of = ledger.read_replica_of(trial)
        found.setdefault((of is None, trial.number if of is None else of), trial)
    return list(found.values())


def best_models(
    study: optuna.Study, files: TrialFiles, top: int | None = None
) -> list[tuple[ModelRecord, TrialRecord]]:
    """The models that the (``top``) best trials have left and that are not logged yet."""
    return [
        (
            ModelRecord(
                study=study.study_name,
                trial=trial.number,
                file=files.model(trial.number),
                ended=ledger.ended(trial),
                best_epoch=ledger.read_best_epoch(trial),
                scalars=ledger.read_scalars(trial),
                params=trial.params,
                blueprint=_blueprint(study, trial),
            ),
            ledger.read_record(trial),
        )
        for trial in best_of_each(ledger.rank(study), top)
        if files.model(trial.number).exists()
    ]


def _blueprint(study: optuna.Study, trial: FrozenTrial) -> str:
    made_with = read_fingerprint(study)
    if made_with is None:
        return ""
    return Blueprint(
        space=made_with.reference,
        sources=made_with.sources,
        params=trial.params,
        classes=CLASSES,
        form=ledger.read_form(trial),
    ).to_json()


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of the objective's variance that each parameter explains (PED-ANOVA), largest first.

    Empty for few trials. Parameters with a condition are left out, as Optuna leaves them out.
    """
    if len(ledger.rank(study)) < MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # of parameters that few trials have
        return dict(optuna.importance.get_param_importances(view(study)))


def _note_importances(shares: Mapping[str, float]) -> str:
    if not shares:
        return ""
    first = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:TOP])
    return f"What tells good trials from bad ones (PED-ANOVA): {first}."


def _note_confirmation(confirmation: Confirmation | None) -> str:
    if confirmation is None:
        return ""
    lines = [
        f"Confirmed with {confirmation.seeds} fresh seeds each:",
        "",
        "| trial | mean | 95 % interval | in the search | parameters | |",
        "|--:|--:|--:|--:|--:|:--|",
    ]
    for row in confirmation.rows:
        said = "chosen" if row.trial == confirmation.chosen else "tied" if row.tied else ""
        lines.append(
            f"| {row.trial} | {row.mean:.4f} | {row.low:.4f} to {row.high:.4f} "
            f"| {row.searched:.4f} | {row.parameters:,} | {said} |"
        )
    return "\n".join(lines)


def _note(study: optuna.Study, counts: Counter[State], stopped: str) -> str:
    ranked = ledger.rank(study)
    lines = [
        f"**{study.study_name}**: "
        + ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
        + (f"; stopped: {stopped}" if stopped else "")
        + "."
    ]
    if ranked:
        lines += [
            "",
            "| trial | val_accuracy | cross-entropy | parameters | epoch |",
            "|--:|--:|--:|--:|--:|",
        ]
    for trial in ranked[:TOP]:
        scalars = ledger.read_scalars(trial)
        lines.append(
            f"| {trial.number}{' (baseline)' if ledger.is_baseline(trial) else ''} "
            f"| {trial.value:.4f} | {scalars['val_cross_entropy']:.4f} "
            f"| {scalars['parameters']:,.0f} | {ledger.read_best_epoch(trial)} |"
        )
    failed = ledger.own_trials(study, (TrialState.FAIL,))
    reasons = Counter(ledger.read_reason(trial) for trial in failed)
    if reasons:
        lines += [
            "",
            "Failures: " + ", ".join(f"{n} {reason}" for reason, n in reasons.items()) + ".",
        ]
    pruning = report_pruning(study)
    if pruning is not None:
        lines += ["", str(pruning)]
    points = f"{100 * SINGLE_RUN_NOISE:.2f} points"
    lines += ["", f"Validation figures are of single runs: differences under {points} are noise."]
    return "\n".join(lines)
