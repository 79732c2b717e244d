"""``StudyReport``: all that is told of a study, gathered once. Text and HTML are written from it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from optuna.trial import TrialState

from mnist_lab.config import OBJECTIVES, describe_value
from mnist_lab.data import Dataset
from mnist_lab.errors import MnistLabError
from mnist_lab.evaluation import Predictions
from mnist_lab.report.images import Mistakes, find_mistakes, read_kept
from mnist_lab.report.importance import Importance, measure_importances
from mnist_lab.report.leaderboard import LeaderboardRow, differing_parameters, leaderboard
from mnist_lab.report.noise import MoreTrials, Noise, advise, measure_noise
from mnist_lab.report.summary import PruningReport, report_pruning
from mnist_lab.report.wording import describe_difference, give_verdict
from mnist_lab.settings import Settings
from mnist_lab.study import (
    STATES,
    Confirmation,
    Ledger,
    TrialFacts,
    WarmPoint,
    find_replicas,
    is_locked,
    load_original_dataset,
    read_confirmation,
)
from mnist_lab.tracking import StudyRecord

TOP_MODELS = 5
_LONGEST_BUILD = 30.0  # seconds before the first epoch that may count as the trial's


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of wall time inside trials, by what they were spent on, and the epochs trained.

    ``training`` are epochs of trials that were finished, ``pruned`` and ``failed`` those of trials that
    were not; ``evaluating`` is building models, predictions and figures. ``wall`` is the time in which
    any trial ran: pauses between sweeps are left out.
    """

    training: float
    pruned: float
    failed: float
    evaluating: float
    wall: float
    epochs: int

    @property
    def phases(self) -> dict[str, float]:
        return {
            "epochs of finished trials": self.training,
            "epochs of pruned trials": self.pruned,
            "epochs of failed trials": self.failed,
            "building and evaluating": self.evaluating,
        }


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """The facts of a study.

    Attributes:
        verdict: the result in a sentence or two.
        counts: trials by state; ``running`` ones count as ``interrupted`` if nothing trains them.
        rows: the leaderboard; ``trials`` all trials by number.
        differing: the parameters that differ between complete trials, in the space's order.
        images: what the best models miss; None where no predictions were kept, or the data are gone.
        confusions: how often the best trial and the baseline take one class for another, ``(C, C)``
            each; None without predictions.
        dataset: for the pictures; None if the data are gone.
        warm_points: what came from earlier studies, and was tried behind the space's own; None if
            nothing was looked for.
        champion: the version that is the champion and comes of this study, as MODEL/VERSION.
    """

    record: StudyRecord
    state: str
    stopped: str
    counts: Mapping[str, int]
    rows: tuple[LeaderboardRow, ...]
    trials: tuple[TrialFacts, ...]
    differing: tuple[str, ...]
    confirmation: Confirmation | None
    noise: Noise | None
    more: tuple[MoreTrials, ...]
    importances: tuple[Importance, ...]
    pruning: PruningReport | None
    failures: Mapping[str, int]
    cost: Cost
    verdict: str
    images: Mistakes | None = None
    confusions: tuple[tuple[int, list[list[int]]], ...] = ()
    dataset: Dataset | None = field(default=None, repr=False)
    champion: str = ""
    warm_points: tuple[WarmPoint, ...] | None = None

    @property
    def best(self) -> LeaderboardRow | None:
        return self.rows[0] if self.rows else None

    @property
    def is_share(self) -> bool:
        """Whether the objective is shown in percent."""
        return OBJECTIVES[self.record.objective]

    def show(self, value: float | None) -> str:
        """Return a value of the objective as it is shown."""
        return describe_value(self.record.objective, value)

    def show_difference(self, value: float) -> str:
        """Return a difference of two values as it is shown."""
        return describe_difference(self.record.objective, value)


def report_study(
    study: Ledger, settings: Settings, *, champion: str = "", dataset: Dataset | None = None
) -> StudyReport:
    """Gather the facts of ``study``, in any state.

    ``dataset`` is the study's, if it is loaded already; else it is loaded for what is shown image by
    image. Where it or all kept predictions are gone, the rest is reported all the same.
    """
    trials, ranked = study.trials(), study.ranked()
    if dataset is None or dataset.digest != study.record.dataset_digest:
        dataset = _find_dataset(study.record, settings) if ranked else None
    kept: dict[int, Predictions] = {}
    if dataset is not None:
        wanted = {trial.number: trial for trial in ranked[:TOP_MODELS]}
        wanted |= {trial.number: trial for trial in ranked if trial.baseline}
        kept = _fitting(read_kept(study, list(wanted.values()), settings), dataset)
    confirmation = read_confirmation(study)
    noise = measure_noise(study, kept, dataset.validation if dataset else None)
    running = is_locked(settings, study.name)
    states: dict[TrialState, str] = dict(STATES)
    if running:
        states[TrialState.RUNNING] = "running"
    return StudyReport(
        record=study.record,
        state="running" if running else study.state,
        stopped="" if running else str(study.stopped or ""),
        counts=dict(sorted(Counter(states.get(t.state, "waiting") for t in trials).items())),
        rows=tuple(leaderboard(study)),
        trials=tuple(trials),
        differing=differing_parameters(trial.params for trial in ranked),
        confirmation=confirmation,
        noise=noise,
        more=advise(study, noise),
        importances=measure_importances(study),
        pruning=report_pruning(study),
        failures=dict(Counter(t.reason for t in trials if t.state == TrialState.FAIL)),
        cost=_cost(trials),
        verdict=give_verdict(study, confirmation, noise, champion),
        images=None if dataset is None else mistakes(study, settings, dataset, kept),
        confusions=() if dataset is None else _confusions(ranked, kept, dataset),
        dataset=dataset,
        champion=champion,
        warm_points=study.warm_points,
    )


def mistakes(
    study: Ledger,
    settings: Settings,
    dataset: Dataset,
    kept: Mapping[int, Predictions] | None = None,
) -> Mistakes | None:
    """Find what the good models of a study miss: all its replicas, or the best of the search.

    None where less than two of them have left predictions of these images.
    """
    replicas = find_replicas(study)
    models: dict[str, Predictions] = {}
    if replicas is not None and read_confirmation(study) is not None:
        trials = [each for each in replicas.ranked() if each.replica_of is not None]
        found = _fitting(read_kept(replicas, trials, settings), dataset)
        models = {
            f"{t.replica_of}.{t.number}": found[t.number] for t in trials if t.number in found
        }
    if len(models) < 2:
        best = study.ranked()[:TOP_MODELS]
        if kept is None:
            kept = _fitting(read_kept(study, best, settings), dataset)
        models = {str(each.number): kept[each.number] for each in best if each.number in kept}
    if len(models) < 2:
        return None
    return find_mistakes(study.name, models, dataset.validation, dataset.form.class_names)


def _find_dataset(record: StudyRecord, settings: Settings) -> Dataset | None:
    try:
        return load_original_dataset(record, settings)
    except MnistLabError:  # gone or changed: no pictures, but everything else
        return None


def _fitting(kept: dict[int, Predictions], dataset: Dataset) -> dict[int, Predictions]:
    images = len(dataset.validation)
    return {number: each for number, each in kept.items() if len(each.classes) == images}


def _confusions(
    ranked: list[TrialFacts], kept: Mapping[int, Predictions], dataset: Dataset
) -> tuple[tuple[int, list[list[int]]], ...]:
    """The confusion matrices of the best trial, and of the baseline or else the next best."""
    there = [trial for trial in ranked if trial.number in kept]
    others = [each for each in there[1:] if each.baseline] or there[1:2]
    labels, count = dataset.validation.labels.astype(int), dataset.classes
    return tuple(
        (
            trial.number,
            np.bincount(labels * count + kept[trial.number].classes, minlength=count**2)
            .reshape(count, count)
            .tolist(),
        )
        for trial in [*there[:1], *others]
    )


def _cost(trials: list[TrialFacts]) -> Cost:
    seconds: dict[str, float] = defaultdict(float)
    for trial in trials:
        kind = {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}.get(trial.state, "training")
        epochs = sum(epoch.seconds for epoch in trial.history)
        seconds[kind] += epochs
        if trial.state == TrialState.COMPLETE and trial.history:  # it may have been paused between
            first, last = trial.history[0], trial.history[-1]
            around = first.timestamp - first.seconds - trial.began + trial.ended - last.timestamp
            seconds["evaluating"] += max(0.0, around)
    return Cost(
        training=seconds["training"],
        pruned=seconds["pruned"],
        failed=seconds["failed"],
        evaluating=seconds["evaluating"],
        wall=busy_seconds(trials)(math.inf),
        epochs=sum(len(trial.history) for trial in trials),
    )


def busy_seconds(trials: Sequence[TrialFacts]) -> Callable[[float], float]:
    """Return a function from Unix time to the seconds until then in which any trial ran.

    A trial that was paused, or interrupted, did not run between its epochs.
    """
    spans = []
    for trial in trials:
        if not trial.history:
            continue
        first, last = trial.history[0], trial.history[-1]
        spans += [(epoch.timestamp - epoch.seconds, epoch.timestamp) for epoch in trial.history]
        if trial.is_finished:
            spans.append((last.timestamp, trial.ended))
        begin = first.timestamp - first.seconds
        spans.append((max(trial.began, begin - _LONGEST_BUILD), begin))
    merged: list[list[float]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])

    def until(time: float) -> float:
        return sum(max(0.0, min(end, time) - begin) for begin, end in merged)

    return until
