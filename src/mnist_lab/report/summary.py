"""The summary of a study for its page in MLflow, when its sweep ends."""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from mnist_lab.config import OBJECTIVES
from mnist_lab.execution import Blueprint, TrialFiles
from mnist_lab.report.leaderboard import differing_parameters
from mnist_lab.report.noise import measure_noise
from mnist_lab.report.wording import give_verdict
from mnist_lab.study import (
    STATES,
    Confirmation,
    Ledger,
    TrialFacts,
    find_replicas,
    read_confirmation,
    searched_study,
    view,
)
from mnist_lab.tracking import ModelRecord, StudySummary, TrialRecord

TOP, LINKED = 5, 3
# PED-ANOVA compares the best tenth with the rest; from fewer trials it says nothing.
MIN_TRIALS_FOR_IMPORTANCE = 10


@dataclass(frozen=True, kw_only=True)
class PruningReport:
    """The epochs that pruning saved, and the good trials that it may have lost.

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


def report_pruning(study: Ledger) -> PruningReport | None:
    """Report the gain and the cost of pruning; None for a study of which nothing was pruned."""
    trials = study.trials()
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    if not pruned:
        return None
    ranked = study.ranked()
    audited = [trial for trial in ranked if trial.audited_at is not None]
    kept = max((t.score for t in ranked if t not in audited), default=math.inf)
    epochs = study.record.epochs
    return PruningReport(
        trained=sum(len(trial.history) for trial in trials),
        saved=sum(epochs - len(trial.history) for trial in pruned),
        audited=len(audited),
        false=sum(trial.score > kept for trial in audited),
    )


def summarise(study: Ledger, champion: str = "") -> StudySummary:
    """Summarise counts, best trials and importances; of a confirmation, those of its search.

    ``champion`` is the version that comes of the study, as MODEL/VERSION, if one does.
    """
    study = searched_study(study)
    trials = study.trials()
    counts = Counter(STATES.get(trial.state, "interrupted") for trial in trials)
    ranked = study.ranked()
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
        metrics |= ranked[0].scalars
        tags["best_trial"] = str(ranked[0].number)
    confirmation, replicas = read_confirmation(study), find_replicas(study)
    if replicas is not None:  # or MLflow would take the higher of two confirmations for the newer
        trials = [*trials, *replicas.trials()]
    if confirmation is not None:
        metrics["confirmed_val_accuracy"] = confirmation.choice.mean
        tags["confirmed_trial"] = str(confirmation.chosen)
    shares = importances(study)
    return StudySummary(
        state=study.state,
        ended=max((each.ended for each in trials), default=time.time()),
        metrics=metrics,
        tags=tags,
        note=describe_study(study, shares, champion),
        importances=shares,
        shown=_shown(ranked, shares),
        links=_best_runs(study, ranked),
        champion=champion,
        curves=_curves(ranked, more_is_better=OBJECTIVES[study.record.objective]),
    )


def describe_study(
    study: Ledger, shares: Mapping[str, float] | None = None, champion: str = ""
) -> str:
    """Describe a study in Markdown, the verdict first; ``shares`` are its ``importances``."""
    confirmation = read_confirmation(study)
    parts = [
        f"**{give_verdict(study, confirmation, measure_noise(study), champion)}**",
        _note(study),
        _note_importances(importances(study) if shares is None else shares),
        _note_confirmation(confirmation),
    ]
    return "\n\n".join(filter(None, parts))


def _shown(ranked: Sequence[TrialFacts], shares: Mapping[str, float]) -> tuple[str, ...]:
    """The parameters that differ between trials, the most important first."""
    differing = differing_parameters(trial.params for trial in ranked)
    return tuple(sorted(differing, key=lambda name: -shares.get(name, 0.0)))


def _curves(ranked: Sequence[TrialFacts], *, more_is_better: bool) -> tuple[float, float] | None:
    """The range of the values of complete trials but for the worst tenth, with a margin."""
    values = sorted(epoch.value for trial in ranked for epoch in trial.history)
    worst = len(values) // 10
    kept = values[worst:] if more_is_better else values[: len(values) - worst]
    if not kept or kept[0] == kept[-1]:
        return None
    low, high = kept[0], kept[-1]
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _best_runs(study: Ledger, ranked: Sequence[TrialFacts]) -> dict[str, str]:
    tracked = study.tracked()
    return {
        f"trial {trial.number}": tracked[trial.number].run
        for trial in ranked[:LINKED]
        if trial.number in tracked
    }


def interrupted_summary() -> StudySummary:
    """Summarise a study that cannot be read."""
    return StudySummary(
        state="interrupted",
        ended=time.time(),
        metrics={},
        tags={},
        note="The study's storage was lost while it was swept.",
        importances={},
    )


def best_of_each(ranked: Sequence[TrialFacts], top: int | None) -> list[TrialFacts]:
    """Return the (``top``) best of ``ranked`` trials; of a trial's replicas that were
    validated on the same images only the best counts."""
    found: dict[tuple[bool, int], TrialFacts] = {}
    for trial in ranked:
        if len(found) == top:
            break
        is_former = trial.replica_of is not None and trial.left_out is None
        key = (trial.replica_of or 0) if is_former else trial.number
        found.setdefault((is_former, key), trial)
    return list(found.values())


def best_models(
    study: Ledger, files: TrialFiles, top: int | None = None
) -> list[tuple[ModelRecord, TrialRecord]]:
    """List the models that the (``top``) best trials have left and that are not logged yet."""
    return [
        (
            ModelRecord(
                study=study.name,
                trial=trial.number,
                file=files.model(trial.number),
                ended=trial.ended,
                best_epoch=trial.best_epoch,
                scalars=trial.scalars,
                params=trial.params,
                blueprint=_blueprint(study, trial),
                images=study.record.images,
            ),
            trial.record(),
        )
        for trial in best_of_each(study.ranked(), top)
        if files.model(trial.number).exists()
    ]


def _blueprint(study: Ledger, trial: TrialFacts) -> str:
    return Blueprint(
        space=study.record.reference,
        sources=study.record.sources,
        params=trial.params,
        images=study.record.images,
        form=trial.form,
    ).to_json()


def importances(study: Ledger) -> dict[str, float]:
    """Compute each parameter's share of the objective's variance (PED-ANOVA), largest first.

    Empty for few trials. Parameters with a condition are left out, as Optuna leaves them out.
    """
    if len(study.ranked()) < MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # of parameters that few trials have
        return dict(optuna.importance.get_param_importances(view(study.study)))


def _note_importances(shares: Mapping[str, float]) -> str:
    if not shares:
        return ""
    first = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:TOP])
    return f"Most important parameters (PED-ANOVA): {first}."


def _note_confirmation(confirmation: Confirmation | None) -> str:
    if confirmation is None:
        return ""
    lines = [
        f"Confirmed with {confirmation.seeds} fresh trainings each:",
        "",
        "| trial | mean | 95 % interval | in the search | parameters | |",
        "|--:|--:|--:|--:|--:|:--|",
    ]
    for row in confirmation.rows:
        lines.append(
            f"| {row.trial} | {row.mean:.4f} | {row.low:.4f} to {row.high:.4f} "
            f"| {row.searched:.4f} | {row.parameters:,} | {row.said} |"
        )
    return "\n".join(lines)


def _note(study: Ledger) -> str:
    ranked, stopped = study.ranked(), study.stopped
    counts = Counter(STATES.get(trial.state, "interrupted") for trial in study.trials())
    lines = [
        f"**{study.name}**: "
        + ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
        + (f"; stopped: {stopped}" if stopped else "")
        + "."
    ]
    if study.record.data:
        lines += ["", study.record.data]
    if ranked:
        lines += [
            "",
            f"| trial | {study.record.objective} | cross-entropy | parameters | epoch |",
            "|--:|--:|--:|--:|--:|",
        ]
    for trial in ranked[:TOP]:
        scalars = trial.scalars
        lines.append(
            f"| {trial.number}{' (baseline)' if trial.baseline else ''} "
            f"| {trial.value:.4f} | {scalars['val_cross_entropy']:.4f} "
            f"| {scalars['parameters']:,.0f} | {trial.best_epoch} |"
        )
    failed = study.trials((TrialState.FAIL,))
    reasons = Counter(trial.reason for trial in failed)
    if reasons:
        lines += [
            "",
            "Failures: " + ", ".join(f"{n} {reason}" for reason, n in reasons.items()) + ".",
        ]
    pruning = report_pruning(study)
    if pruning is not None:
        lines += ["", str(pruning)]
    return "\n".join(lines)
