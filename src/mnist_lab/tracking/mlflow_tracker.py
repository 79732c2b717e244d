"""``MlflowTracker``: one parent run a study, one child run a trial, written by explicit run ids.

The fluent API is not used: its stack of active runs marks runs by how the process happens to end.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from mlflow import MlflowClient
from mlflow.entities import (
    LifecycleStage,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)

from mnist_lab.errors import masked
from mnist_lab.spaces import Params
from mnist_lab.tracking.inputs import dataset_inputs
from mnist_lab.tracking.names import (
    LONGEST_PARAM,
    LONGEST_TAG,
    describe_names,
    logged_model_name,
    names_tag,
    renamed,
    safe_name,
)
from mnist_lab.tracking.package import package_model
from mnist_lab.tracking.pages import all_pages
from mnist_lab.tracking.records import (
    FoundStudy,
    ModelRecord,
    State,
    StudyRecord,
    StudySummary,
    TrialOutcome,
    TrialRecord,
)
from mnist_lab.tracking.runs import experiment_name, find_runs
from mnist_lab.tracking.tags import TAG, common_tags, source_tags, stage_tags, study_tags
from mnist_lab.tracking.tracker import ExperimentDeletedError
from mnist_lab.tracking.views import describe_links, save_view
from mnist_lab.training import EpochMetrics

STATUS: Mapping[State, str] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
ENSEMBLE_LEVEL = "ensemble"  # of its run below a study's page; those of trials have others
METRICS_A_BATCH, PARAMS_A_BATCH = 1000, 100  # MLflow's limits for one request
NOTE = "mlflow.note.content"
# The kind tag opens the page on runs and charts; without it MLflow 3 shows its GenAI layout.
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": "best_val_accuracy",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "true",
}


class MlflowTracker:
    """The tracker of ``client``'s store; artifacts of new experiments go to ``artifact_location``.

    A run is found by its tags (study id, trial number), not by what was answered when it was made: an
    answer can be lost on its way, and the run be there.
    """

    def __init__(self, client: MlflowClient, artifact_location: str | None = None) -> None:
        self._client = client
        self._artifact_location = artifact_location
        self._experiment = ""
        self._study: StudyRecord | None = None
        # Trials that may have a run already; None for any. Those of a new study cannot, and a search
        # takes longer the more runs there are.
        self._begun: set[int] | None = None
        self._given: dict[str, Mapping[str, object]] = {}  # the parameters of open runs
        self._renamed: dict[str, str] = {}  # of all trials so far

    def open_study(
        self, study: StudyRecord, figures: Path | None = None, *, running: bool = True
    ) -> str:
        self._experiment, self._begun, self._study = self._find_experiment(study), None, study
        found = self._find_runs(study_tags(study))
        if study.confirms:
            if not found:
                raise LookupError(f"the study that {study.name} confirms has no run yet")
            return str(found[0].info.run_id)
        tags = {**common_tags(study), **study_tags(study), **source_tags()}
        run = self._only(found) or self._create(study.name, tags)
        self._begun = None if found else set()
        save_view(self._client, self._experiment, study, run)
        self._log_params(run, study.settings)
        self._client.log_inputs(run, dataset_inputs(study))
        if figures is not None and figures.is_dir():
            self._client.log_artifacts(run, str(figures))
        if running:
            self._client.update_run(run, status="RUNNING")
        return run

    def find_study(self, study: StudyRecord) -> FoundStudy | None:
        found = self._get_experiment(experiment_name(study.dataset, study.family))
        if found is None:
            return None
        self._experiment = found
        runs = self._find_runs(study_tags(study))
        return FoundStudy(run=str(runs[0].info.run_id), state=_state(runs[0])) if runs else None

    def find_trials(self, study: StudyRecord, study_run: str) -> Mapping[int, State]:
        states: dict[int, State] = {}
        for run in self._find_runs({"mlflow.parentRunId": study_run, f"{TAG}level": study.level}):
            states[int(run.data.tags[f"{TAG}trial"])] = _state(run)
        return states

    def open_trial(self, study: StudyRecord, study_run: str, trial: TrialRecord) -> str:
        name = {
            "mlflow.parentRunId": study_run,
            f"{TAG}level": study.level,
            f"{TAG}trial": str(trial.trial),
        }
        facts = {
            f"{TAG}attempt": str(trial.attempt),
            **({f"{TAG}state": "running"} if trial.outcome is None else {}),
            **({f"{TAG}retrained_epochs": str(trial.retrained)} if trial.retrained else {}),
        }
        found = None
        if self._begun is None or trial.trial in self._begun:
            found = self._only(self._find_runs(name))
        if self._begun is not None:
            self._begun.add(trial.trial)  # before the run is made: the answer may be lost
        if found is None:
            tags = {
                **common_tags(study),
                **source_tags(),
                **name,
                **facts,
                **stage_tags(study, trial),
                f"{TAG}seed": str(trial.seed),
                **({f"{TAG}baseline": "true"} if trial.baseline else {}),
                **{f"{TAG}form.{name}": fact for name, fact in trial.form.items()},
            }
            run = self._create(_run_name(study, trial), tags, began=trial.began)
        else:
            run = found
            self._client.log_batch(run, tags=[RunTag(key, value) for key, value in facts.items()])
            if trial.outcome is None:
                self._client.update_run(run, status="RUNNING")
        self._log_params(run, trial.params)
        self._renamed |= renamed(trial.params)
        self._client.log_inputs(run, dataset_inputs(study))
        return run

    def open_ensemble(
        self, study: StudyRecord, study_run: str, of: int, replicas: str, params: Params
    ) -> str:
        """Create the run of an ensemble of trial ``of``, unless it is there; return its id.

        ``replicas`` are the numbers of its members, trials of ``study``: ``12+15+18``.
        """
        name = {
            "mlflow.parentRunId": study_run,
            f"{TAG}level": ENSEMBLE_LEVEL,
            f"{TAG}study_id": study.id,
            f"{TAG}replicas": replicas,
        }
        run = self._only(self._find_runs(name))
        if run is None:
            facts = {**common_tags(study), **source_tags(), f"{TAG}replica_of": str(of)}
            run = self._create(f"{ENSEMBLE_LEVEL}-{of:04d}", {**facts, **name})
        self._log_params(run, params)
        self._client.log_inputs(run, dataset_inputs(study))
        return run

    def log_epochs(self, run: str, epochs: tuple[EpochMetrics, ...]) -> None:
        # The same rows with the same timestamps are one row: what was sent before may be sent again.
        rows = [
            Metric(safe_name(key), value, _milliseconds(epoch.timestamp), epoch.epoch)
            for epoch in epochs
            for key, value in epoch.metrics().items()
        ]
        for first in range(0, len(rows), METRICS_A_BATCH):
            self._client.log_batch(run, metrics=rows[first : first + METRICS_A_BATCH])

    def close_trial(self, run: str, outcome: TrialOutcome) -> None:
        stamp = _milliseconds(outcome.ended)
        tags = {
            f"{TAG}state": outcome.state,
            **({f"{TAG}reason": outcome.reason} if outcome.reason else {}),
            **_note_tags(outcome.detail[:5000], self._given.get(run, {}), outcome.scalars),
        }
        self._client.log_batch(
            run,
            metrics=[
                Metric(safe_name(key), value, stamp, outcome.best_epoch)
                for key, value in outcome.scalars.items()
            ],
            tags=_tags(tags),
        )
        self._client.set_terminated(run, status=STATUS[outcome.state], end_time=stamp)
        self._given.pop(run, None)
        # Last: a store of files that is away must not leave the run open.
        if outcome.artifacts is not None and outcome.artifacts.is_dir():
            self._client.log_artifacts(run, str(outcome.artifacts))

    def log_model(self, run: str, model: ModelRecord) -> str:
        logged = self._find_model(run) or self._log_model(run, model)
        rows = [
            Metric(
                safe_name(key),
                value,
                _milliseconds(model.ended),
                model.best_epoch,
                model_id=logged,
                run_id=run,
            )
            for key, value in model.scalars.items()
        ]
        outputs = self._client.get_run(run).outputs
        if logged not in {each.model_id for each in (outputs.model_outputs if outputs else ())}:
            self._client.log_outputs(run, [LoggedModelOutput(logged, model.best_epoch)])
        self._client.log_batch(run, metrics=rows, tags=[RunTag(f"{TAG}model", logged)])
        return logged

    def close_study(self, run: str, summary: StudySummary) -> None:
        stamp = _milliseconds(summary.ended)
        tags = {
            **{f"{TAG}{key}": value for key, value in summary.tags.items()},
            f"{TAG}state": summary.state,
            **self._describe(run, summary),
        }
        self._client.log_batch(
            run,
            metrics=[
                Metric(safe_name(key), value, stamp, 0) for key, value in summary.metrics.items()
            ],
            tags=_tags(tags),
        )
        if summary.importances:
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / "importances.json"
                file.write_text(json.dumps(dict(summary.importances), indent=1))
                self._client.log_artifact(run, str(file))
        self._client.set_terminated(run, status=STATUS[summary.state], end_time=stamp)

    def log_report(self, study: StudyRecord, file: Path, summary: StudySummary) -> None:
        found = self.find_study(study)
        if found is None:
            return
        self._study = study
        self._client.log_artifact(found.run, str(file))
        self._client.log_batch(found.run, tags=_tags(self._describe(found.run, summary)))

    def _describe(self, run: str, summary: StudySummary) -> dict[str, str]:
        """Save the study's view; return the tags of its run's description, links included."""
        links = ""
        if self._study is not None:
            save_view(self._client, self._experiment, self._study, run, summary)
            links = describe_links(self._experiment, self._study, run, summary)
        names = [*summary.importances, *summary.shown, *self._renamed.values(), *summary.metrics]
        note = "\n\n".join(filter(None, [summary.note, links]))
        return _note_tags(note, self._given.get(run, {}), names)

    def _find_experiment(self, study: StudyRecord) -> str:
        name = experiment_name(study.dataset, study.family)
        return self._get_experiment(name) or str(
            self._client.create_experiment(
                name, artifact_location=self._artifact_location, tags=EXPERIMENT_TAGS
            )
        )

    def _get_experiment(self, name: str) -> str | None:
        """The experiment's id; None if there is none. MLflow finds deleted ones by name, too."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return None
        if found.lifecycle_stage == LifecycleStage.DELETED:
            uri = masked(self._client.tracking_uri)
            raise ExperimentDeletedError(name, found.experiment_id, uri)
        return str(found.experiment_id)

    def _log_params(self, run: str, values: Mapping[str, object]) -> None:
        """Log a run's parameters; list those that were renamed in its description."""
        self._given[run] = values
        params = [
            Param(safe_name(key), str(value)[:LONGEST_PARAM]) for key, value in values.items()
        ]
        for first in range(0, len(params), PARAMS_A_BATCH):
            self._client.log_batch(run, params=params[first : first + PARAMS_A_BATCH])
        tags = _note_tags("", values)
        if tags:
            self._client.log_batch(run, tags=_tags(tags))

    def _find_runs(self, tags: Mapping[str, str]) -> list[Run]:
        """Every run of the experiment with these tags, oldest first."""
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        return find_runs(self._client, [self._experiment], condition)

    def _only(self, runs: list[Run]) -> str | None:
        """The id of the first run; others like it, made when an answer was lost, are deleted."""
        for run in runs[1:]:
            self._client.delete_run(run.info.run_id)
        return str(runs[0].info.run_id) if runs else None

    def _create(self, name: str, tags: Mapping[str, str], *, began: float | None = None) -> str:
        start = None if began is None else _milliseconds(began)
        run = self._client.create_run(
            self._experiment,
            start_time=start,
            run_name=name,
            tags={key: value[:LONGEST_TAG] for key, value in tags.items()},
        )
        return str(run.info.run_id)

    def _find_model(self, run: str) -> str | None:
        """The run's model, if it was logged whole; remains of one that was not are deleted."""
        search = self._client.search_logged_models
        condition = f"source_run_id = '{run}'"
        ready = None
        for found in all_pages(search, [self._experiment], filter_string=condition):
            if found.status == LoggedModelStatus.READY:
                ready = str(found.model_id)
            else:
                self._client.delete_logged_model(found.model_id)
        return ready

    def _log_model(self, run: str, model: ModelRecord) -> str:
        digest = hashlib.sha256(model.file.read_bytes()).hexdigest()
        logged = self._client.create_logged_model(
            self._experiment,
            name=logged_model_name(f"{model.study}-{model.kind}-{model.trial:04d}"),
            source_run_id=run,
            tags={
                f"{TAG}study": model.study,
                f"{TAG}trial": str(model.trial),
                f"{TAG}sha256": digest,
                **({f"{TAG}blueprint": model.blueprint} if model.blueprint else {}),
                **_names_tags(model.params),
            },
            params={
                safe_name(key): str(value)[:LONGEST_PARAM] for key, value in model.params.items()
            },
            model_type="classifier",
        )
        status = LoggedModelStatus.FAILED
        try:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "model"
                package_model(model.file, folder, model.images, model_id=logged.model_id, run=run)
                self._client.log_model_artifacts(logged.model_id, str(folder))
            status = LoggedModelStatus.READY
        finally:
            self._client.finalize_logged_model(logged.model_id, status)
        return str(logged.model_id)


def _note_tags(
    note: str, values: Mapping[str, object], names: Iterable[str] = ()
) -> dict[str, str]:
    """Return a run's description: ``note``, and the changes to names and ``values`` for MLflow."""
    changes = describe_names(renamed([*values, *names]), values)
    text = "\n\n".join(filter(None, [note, changes]))
    return {**({NOTE: text} if text else {}), **_names_tags([*values, *names])}


def _names_tags(names: Iterable[str]) -> dict[str, str]:
    changed = renamed(names)
    return {f"{TAG}names": names_tag(changed)} if changed else {}


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, value[:LONGEST_TAG]) for key, value in tags.items()]


def _run_name(study: StudyRecord, trial: TrialRecord) -> str:
    """A replica is named after its trial; short, because MLflow's table cuts long names."""
    if trial.replica_of is None:
        return f"{study.level}-{trial.trial:04d}"
    return f"{study.level}-{trial.replica_of:04d}.{trial.trial}"


def _state(run: Run) -> State:
    """Return the state of tag and status; ``running`` if they differ, after an interruption."""
    state = cast(State, run.data.tags.get(f"{TAG}state", "running"))
    return state if STATUS.get(state) == run.info.status else "running"


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
