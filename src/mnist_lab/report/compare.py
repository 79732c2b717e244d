"""Some trials of a study side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_lab.data import Dataset
from mnist_lab.errors import UsageError
from mnist_lab.evaluation import Predictions
from mnist_lab.report.images import PairRow, compare_pair
from mnist_lab.report.noise import measure_noise, noise_by_count
from mnist_lab.spaces import ParamValue
from mnist_lab.study import STATES, Ledger, TrialFacts

Row = tuple[ParamValue | None, ...]  # one value a trial; None where it has none
SCALARS = ("best_val_accuracy", "val_cross_entropy", "parameters", "fit_seconds", "latency_ms")


@dataclass(frozen=True, kw_only=True)
class TrialComparison:
    """Trials by number, their ``facts`` and the parameters that ``differ``, by name.

    ``same`` are the parameters that all of them share. ``after`` is the last epoch that all have been
    trained to, and ``then`` their validation accuracies after it; 0 and none if one has no epoch.
    ``told_apart`` says whether the best two accuracies differ by more than the noise of single runs;
    None if the trials have not been trained for as many epochs: longer is better by itself. ``pairs``
    compares the first trial with each other one image by image; empty where no predictions were kept,
    or the data are gone.
    """

    study: str
    trials: tuple[int, ...]
    facts: Mapping[str, Row]
    differ: Mapping[str, Row]
    same: Mapping[str, ParamValue]
    after: int
    then: tuple[float, ...]
    told_apart: bool | None
    pairs: tuple[PairRow, ...] = ()

    def cells(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return what differs as text: a name, and one cell a trial."""
        rows = [*self.facts.items(), *self.differ.items()]
        if self.after:
            rows.insert(2, (f"val_accuracy, epoch {self.after}", self.then))
        return [(name, tuple(_cell(name, value) for value in values)) for name, values in rows]


def compare(
    study: Ledger,
    numbers: Sequence[str],
    *,
    kept: Mapping[int, Predictions] | None = None,
    dataset: Dataset | None = None,
) -> TrialComparison:
    """Compare trials of ``study`` in any state; image by image if ``kept`` has what they predict.

    Raises:
        UsageError: there are less than two.
        UnknownNameError: one of them is not there.
    """
    if len(numbers) < 2:
        raise UsageError("Which trials? At least two.")
    trials = [study.find_trial(number) for number in numbers]
    scalars = [trial.scalars for trial in trials]
    histories = [trial.history for trial in trials]
    after = min(map(len, histories))
    params = {
        name: tuple(each.params.get(name) for each in trials)
        for name in dict.fromkeys(name for trial in trials for name in trial.params)
    }
    alike = after > 0 and all(len(each) == after for each in histories)
    noise = measure_noise(study, kept, dataset.validation if dataset else None)
    images = study.record.splits["validation"].images
    best = sorted((each.get("best_val_accuracy", 0.0) for each in scalars), reverse=True)
    chance = noise.difference if noise else noise_by_count(best[0], images)
    return TrialComparison(
        study=study.name,
        trials=tuple(trial.number for trial in trials),
        facts={
            "state": tuple(map(_state, trials)),
            "epochs": tuple(map(len, histories)),
            **{name: tuple(each.get(name) for each in scalars) for name in SCALARS},
        },
        differ={name: row for name, row in params.items() if len(set(row)) > 1},
        same={name: row[0] for name, row in params.items() if len(set(row)) == 1},
        after=after,
        then=tuple(each[after - 1].val_accuracy for each in histories) if after else (),
        told_apart=best[0] - best[1] > chance if alike else None,
        pairs=_pairs([trial.number for trial in trials], kept or {}, dataset),
    )


def _pairs(
    numbers: Sequence[int], kept: Mapping[int, Predictions], dataset: Dataset | None
) -> tuple[PairRow, ...]:
    """Compare the first trial with each other one of which there are predictions."""
    first = numbers[0]
    if dataset is None or first not in kept:
        return ()
    validation, names = dataset.validation, dataset.form.class_names
    return tuple(
        compare_pair((first, kept[first]), (other, kept[other]), validation, names)
        for other in numbers[1:]
        if other in kept
    )


def _cell(name: str, value: ParamValue | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and "accuracy" in name:
        return f"{value:.2%}"
    if name == "parameters":
        return f"{value:,.0f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _state(trial: TrialFacts) -> str:
    state = STATES.get(trial.state, "waiting")
    return f"{state} ({trial.reason})" if state == "failed" else state
