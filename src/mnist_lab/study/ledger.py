"""The facts of a study as they stand in its storage: the ledger that all else is made from.

Optuna keeps state, params, intermediate values and times; the rest is in user attributes, whose
names and types are this file's alone. Those of a trial can be written until it is told, not after; so
what the tracker answers, which may come later, is kept with the study.
"""

from __future__ import annotations

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_lab.errors import MnistLabError, UnknownNameError
from mnist_lab.execution import TrialFinished
from mnist_lab.spaces import Params
from mnist_lab.tracking import SplitFacts, State, StudyRecord, TrialOutcome, TrialRecord
from mnist_lab.training import EpochMetrics, History, ModelForm

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
STATES: Mapping[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "interrupted",
}
_RECORD, _STOPPED, _TRIAL_RUN, _NAMES = "record", "stopped", "run:", "names"


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """What the tracker has of a trial: its run, and whether the run is closed for good."""

    trial: int
    run: str
    closed: bool


# A trial's facts


def write_start(
    trial: optuna.Trial, *, seed: int, attempt: int, fruitless: int = 0, epochs: int = 0
) -> None:
    """``epochs`` are those trained before; ``fruitless`` is how many attempts added none."""
    start = {"seed": seed, "attempt": attempt, "fruitless": fruitless, "epochs": epochs}
    trial.set_user_attr("start", start)


def write_left(trial: optuna.Trial) -> None:
    """The trial was left on purpose: that it came no further is nobody's fault."""
    start = trial.user_attrs["start"]
    trial.set_user_attr("start", {**start, "fruitless": 0, "epochs": -1})


def is_own(trial: FrozenTrial) -> bool:
    """Whether mnist-lab wrote the trial, or has yet to train it; others came by ``add_trial``."""
    return trial.state not in FINISHED or bool(
        {"start", "history", "scalars"} & set(trial.user_attrs)
    )


def is_anothers(trial: FrozenTrial) -> bool:
    """Whether a running trial, as the database has it, was asked for by another program.

    Our parameters are written with the trial's start: one that was cut off while it drew has none.
    """
    return (
        trial.state == TrialState.RUNNING and "start" not in trial.user_attrs and bool(trial.params)
    )


def count_foreign(study: optuna.Study) -> int:
    """How many trials of ``study`` mnist-lab did not write; they are in no table and no ranking."""
    return sum(not is_own(trial) for trial in study.get_trials(deepcopy=False))


def own_trials(
    study: optuna.Study, states: Container[TrialState] | None = None
) -> list[FrozenTrial]:
    """The trials of ``study`` that are mnist-lab's, by number."""
    return [each for each in study.get_trials(deepcopy=False, states=states) if is_own(each)]


def queue_replica(study: optuna.Study, params: Params, *, of: int, seed: int) -> None:
    """Queue a trial that trains trial ``of`` of another study again, with another seed."""
    study.enqueue_trial(dict(params), user_attrs={"replica_of": of, "planned_seed": seed})


def read_queued(trial: FrozenTrial) -> Params:
    """The values that the trial was queued with; empty for one that is drawn."""
    return dict(trial.system_attrs.get("fixed_params", {}))


def queue_point(study: optuna.Study, point: Params, *, baseline: bool, defaults: bool) -> None:
    """Queue a point; what it does not say is drawn, or with ``defaults`` the parameter's default."""
    attributes = {"baseline": baseline, "defaults": defaults}
    study.enqueue_trial(dict(point), user_attrs={k: v for k, v in attributes.items() if v} or None)


def takes_defaults(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether parameters that the trial was not queued with have their defaults."""
    return bool(trial.user_attrs.get("defaults"))


def write_form(trial: optuna.Trial, form: Mapping[str, Any]) -> None:
    """How the trial's model takes images and labels, and what it gives (a ``ModelForm`` as data)."""
    trial.set_user_attr("form", dict(form))


def read_form(trial: FrozenTrial) -> dict[str, Any] | None:
    """As ``write_form``; None for a model of our own spaces."""
    return trial.user_attrs.get("form")


def is_built(trial: FrozenTrial) -> bool:
    """Whether a trial of a space that asks has been asked for all its parameters."""
    return "form" in trial.user_attrs


def write_names(study: optuna.Study, names: Mapping[str, str]) -> None:
    """Which parameter has which name in a study whose space asks."""
    study.set_user_attr(_NAMES, dict(names))


def read_names(study: optuna.Study) -> dict[str, str]:
    return dict(study.user_attrs.get(_NAMES, {}))


def read_replica_of(trial: FrozenTrial) -> int | None:
    found = trial.user_attrs.get("replica_of")
    return None if found is None else int(found)


def read_planned_seed(trial: FrozenTrial | optuna.Trial) -> int | None:
    """The seed that was chosen when the trial was queued; None if its number decides."""
    found = trial.user_attrs.get("planned_seed")
    return None if found is None else int(found)


def write_audited(trial: optuna.Trial, epoch: int) -> None:
    """The trial would be pruned after ``epoch``, and is finished to see whether that is right."""
    trial.set_user_attr("audited_at", epoch)


def write_pruned_at(trial: optuna.Trial, epoch: int) -> None:
    """The pruner's verdict; asked again after a crash it might say something else."""
    trial.set_user_attr("pruned_at", epoch)


def write_history(trial: optuna.Trial, history: Sequence[EpochMetrics]) -> None:
    trial.set_user_attr("history", [asdict(epoch) for epoch in history])


def write_retrained(trial: optuna.Trial, epochs: int) -> None:
    trial.set_user_attr("retrained", epochs)


def write_retry(trial: optuna.Trial, retried: Sequence[str], *, attempt: int) -> None:
    trial.set_user_attr("retried", list(retried))
    trial.set_user_attr("start", {**trial.user_attrs["start"], "attempt": attempt})


def write_result(trial: optuna.Trial, event: TrialFinished) -> None:
    trial.set_user_attr("scalars", event.scalars)
    trial.set_user_attr("environment", event.environment)


def write_failure(trial: optuna.Trial, reason: str, detail: str) -> None:
    trial.set_user_attr("reason", reason)
    trial.set_user_attr("detail", detail)


def read_reason(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("reason", ""))


def read_seed(trial: FrozenTrial) -> int:
    return int(_start(trial)["seed"])


def read_attempt(trial: FrozenTrial) -> int:
    return int(_start(trial)["attempt"])


def read_attempts_without_progress(trial: FrozenTrial) -> int:
    """How many attempts in a row, the last included, added no epoch though nobody stopped them."""
    start = _start(trial)
    further = len(read_history(trial)) != start["epochs"]
    return 0 if further else int(start["fruitless"]) + 1


def _start(trial: FrozenTrial) -> Mapping[str, int]:
    never = {"seed": 0, "attempt": 0, "fruitless": 0, "epochs": -1}
    return dict(trial.user_attrs.get("start", never))


def read_audited_at(trial: FrozenTrial) -> int | None:
    found = trial.user_attrs.get("audited_at")
    return None if found is None else int(found)


def read_pruned_at(trial: FrozenTrial) -> int | None:
    found = trial.user_attrs.get("pruned_at")
    return None if found is None else int(found)


def read_retried(trial: FrozenTrial) -> list[str]:
    return list(trial.user_attrs.get("retried", ()))


def read_retrained(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("retrained", 0))


def read_scalars(trial: FrozenTrial) -> dict[str, float]:
    """The final metrics; of a trial that was not evaluated what its epochs say."""
    stored = trial.user_attrs.get("scalars")
    history = read_history(trial)
    if stored is not None or not history:
        return dict(stored or {})
    return History(epochs=history).scalars()


def read_environment(trial: FrozenTrial) -> dict[str, str]:
    """Versions, threads and device of a complete trial."""
    return dict(trial.user_attrs.get("environment", {}))


def read_best_epoch(trial: FrozenTrial) -> int:
    return int(read_scalars(trial).get("best_epoch", 0))


def read_history(trial: FrozenTrial) -> tuple[EpochMetrics, ...]:
    return tuple(EpochMetrics(**epoch) for epoch in trial.user_attrs.get("history", ()))


def is_baseline(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get("baseline"))


def read_record(trial: FrozenTrial, *, running: bool = False) -> TrialRecord:
    """All that the tracker is to be told of a trial, its files excepted.

    ``running`` says that a supervisor is at work on it; an unfinished trial is interrupted else.
    """
    form = read_form(trial)
    return TrialRecord(
        trial=trial.number,
        attempt=read_attempt(trial),
        params=trial.params,
        seed=read_seed(trial),
        baseline=is_baseline(trial),
        began=_began(trial),
        retrained=read_retrained(trial),
        replica_of=read_replica_of(trial),
        form=ModelForm.from_dict(form).facts() if form else {},
        epochs=read_history(trial),
        outcome=None if running else _outcome(trial),
    )


def _outcome(trial: FrozenTrial) -> TrialOutcome:
    return TrialOutcome(
        state=STATES[trial.state],
        ended=ended(trial),
        reason=read_reason(trial),
        detail=str(trial.user_attrs.get("detail", "")),
        scalars=read_scalars(trial),
        best_epoch=read_best_epoch(trial),
    )


def _began(trial: FrozenTrial) -> float:
    return trial.datetime_start.timestamp() if trial.datetime_start else time.time()


def ended(trial: FrozenTrial) -> float:
    """Unix time of the trial's end; of its last epoch while it has none."""
    if trial.datetime_complete is not None:
        return trial.datetime_complete.timestamp()
    history = read_history(trial)
    return history[-1].timestamp if history else _began(trial)


# A study's facts


def write_study(study: optuna.Study, record: StudyRecord) -> None:
    study.set_user_attr(_RECORD, asdict(record))


def read_study(study: optuna.Study) -> StudyRecord | None:
    """What was written when the study was made; None if that was not by this version of mnist-lab."""
    stored = study.user_attrs.get(_RECORD)
    if stored is None:
        return None
    splits = {name: SplitFacts(**facts) for name, facts in stored["splits"].items()}
    return StudyRecord(**{**stored, "splits": splits})


def write_stopped(study: optuna.Study, stopped: str) -> None:
    """Why the last sweep ended before its total; empty when it did not."""
    study.set_user_attr(_STOPPED, stopped)


def read_stopped(study: optuna.Study) -> str:
    return str(study.user_attrs.get(_STOPPED, ""))


def write_tracked(study: optuna.Study, tracked: Tracked) -> None:
    study.set_user_attr(
        f"{_TRIAL_RUN}{tracked.trial}", {"run": tracked.run, "closed": tracked.closed}
    )


def read_tracked(study: optuna.Study) -> dict[int, Tracked]:
    """What the tracker has of each trial by number, as far as it has answered."""
    return {
        int(key.removeprefix(_TRIAL_RUN)): Tracked(trial=int(key.removeprefix(_TRIAL_RUN)), **value)
        for key, value in study.user_attrs.items()
        if key.startswith(_TRIAL_RUN)
    }


def is_untracked(trial: FrozenTrial, tracked: Mapping[int, Tracked]) -> bool:
    """Whether the tracker has yet to be told of ``trial``, or of its end."""
    return is_begun(trial) and not (trial.number in tracked and tracked[trial.number].closed)


def is_begun(trial: FrozenTrial) -> bool:
    """Whether an attempt at ``trial`` was made; else it waits, or was cut off while it drew."""
    return trial.state != TrialState.WAITING and read_attempt(trial) > 0


def find_run(study: optuna.Study, trial: int) -> str:
    """The trial's run.

    Raises:
        MnistLabError: the tracker has not taken the trial yet.
    """
    tracked = read_tracked(study).get(trial)
    if tracked is None:
        raise MnistLabError(
            f"Trial {trial} of {study.study_name} is not in MLflow yet.",
            safe="The study has it.",
            next_step=f"Type: mnist-lab sync {study.study_name}",
        )
    return tracked.run


def rank(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials with a possible accuracy, best first; of equals, the earlier."""
    done = own_trials(study, (TrialState.COMPLETE,))
    possible = [trial for trial in done if 0.0 <= (trial.value or 0.0) <= 1.0]
    return sorted(possible, key=rank_key)


def rank_key(trial: FrozenTrial) -> tuple[float, int]:
    """The order of ``rank``."""
    return -(trial.value or 0.0), trial.number


def read_trial(study: optuna.Study, number: int) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[number]


def find_trial(study: optuna.Study, number: str) -> FrozenTrial:
    """Trial ``number`` of the study; its best when ``number`` is empty.

    Raises:
        UnknownNameError: there is none.
    """
    found = rank(study) if not number else own_trials(study)
    for trial in found:
        if not number or str(trial.number) == number:
            return trial
    raise UnknownNameError(
        f"trial of study {study.study_name}", number or "best", [str(t.number) for t in found]
    )
