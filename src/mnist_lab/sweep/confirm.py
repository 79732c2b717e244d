"""``confirm``: train a study's best configurations again with fresh seeds; resumable like a sweep."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import optuna
from optuna.trial import TrialState

from mnist_lab.data import Dataset
from mnist_lab.errors import MnistLabError, UsageError
from mnist_lab.execution import TrialFiles, WorkerSpec
from mnist_lab.publish import TrackerFactory, connect_mlflow
from mnist_lab.search import TRANSIENT, make_pruner
from mnist_lab.settings import Settings
from mnist_lab.spaces import SearchSpace
from mnist_lab.study import (
    SUFFIX,
    Confirmation,
    Design,
    Fingerprint,
    SingleWriterStorage,
    SweepConfig,
    confirm_name,
    connect,
    create_study,
    ledger,
    load_original_dataset,
    load_original_space,
    lock_study,
    make_record,
    open_study,
    pair_of,
    read_confirmation,
    read_fingerprint,
    require_writable,
    translate_storage_errors,
)
from mnist_lab.sweep.launch import SweepSetup, run_sweep
from mnist_lab.sweep.progress import Listener, SweepResult
from mnist_lab.tracking import StudyRecord


def confirm(
    settings: Settings,
    name: str,
    design: Design,
    *,
    workers: int | None = None,
    device: str | None = None,
    listener: Listener = lambda _: None,
    make_tracker: TrackerFactory = connect_mlflow,
    trainer: str = WorkerSpec.trainer,
) -> tuple[SweepResult, Confirmation | None]:
    """Train the replicas of ``design`` that study ``name`` does not have yet, for all their epochs.

    Raises:
        UsageError: the study is a confirmation itself.
        MnistLabError: the study has no complete trial.
        ConfigurationError, DataError: space or data are not what the study was made with.
    """
    searched, made_with, record = _open(settings, name)
    space, dataset = load_original_space(made_with), load_original_dataset(made_with, settings)
    with ExitStack() as held:
        held.enter_context(translate_storage_errors(settings))
        require_writable(settings)
        held.enter_context(lock_study(settings.work, confirm_name(name)))
        pruner = make_pruner("none", epochs=made_with.epochs)
        study = create_study(
            SingleWriterStorage(connect(settings)), confirm_name(name), made_with, pruner=pruner
        )
        _queue(study, searched, design)
        config = _config(study, made_with, record, workers, device)
        result = run_sweep(
            _set_up(config, study, space, dataset, record, settings),
            settings,
            listener=listener,
            make_tracker=make_tracker,
            trainer=trainer,
        )
    return result, read_confirmation(open_study(settings, name), design)


def _open(settings: Settings, name: str) -> tuple[optuna.Study, Fingerprint, StudyRecord]:
    if name.endswith(SUFFIX):
        searched = name.removesuffix(SUFFIX)
        raise UsageError(
            f"{name!r} is the confirmation of {searched!r} already.",
            next_step=f"For more seeds: mnist-lab confirm {searched} --seeds 5",
        )
    study = open_study(settings, name)
    made_with, record = read_fingerprint(study), ledger.read_study(study)
    if made_with is None or record is None or not ledger.rank(study):
        raise MnistLabError(
            f"Study {name!r} has no complete trial.",
            safe="Nothing was trained.",
            next_step="See: mnist-lab studies",
        )
    return study, made_with, record


def _queue(study: optuna.Study, searched: optuna.Study, design: Design) -> None:
    """Queue what is wanted and not there, or has failed for a reason that may have passed."""
    there = {
        pair_of(trial)
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.FAIL or ledger.read_reason(trial) not in TRANSIENT
    }
    for of, seed in design.replicas(searched):
        if (of, seed) not in there:
            params = ledger.read_trial(searched, of).params
            ledger.queue_replica(study, params, of=of, seed=seed)


def _config(
    study: optuna.Study,
    made_with: Fingerprint,
    searched: StudyRecord,
    workers: int | None,
    device: str | None,
) -> SweepConfig:
    trials = study.get_trials(deepcopy=False)
    return SweepConfig(
        space=made_with.reference,
        trials=len(trials),
        study=study.study_name,
        sampler="grid",  # whose points are queued; when they are done, so is the study
        pruner="none",
        epochs=made_with.epochs,
        workers=workers,
        device=device,
        dataset=made_with.dataset_source,
        # One of each configuration: which will be chosen is known at the end only.
        keep_models=len({pair_of(trial)[0] for trial in trials}),
        seed=int(searched.settings["seed"]),
    )


def _set_up(
    config: SweepConfig,
    study: optuna.Study,
    space: SearchSpace,
    dataset: Dataset,
    searched: StudyRecord,
    settings: Settings,
) -> SweepSetup:
    record = ledger.read_study(study)
    if record is None:
        fresh = make_record(study.study_name, config, space, dataset)
        record = replace(fresh, confirms=searched.id)
        ledger.write_study(study, record)
    files = TrialFiles(settings.work / study.study_name)
    files.adopt(record.id)
    return SweepSetup(
        config=config, study=study, space=space, dataset=dataset, record=record, files=files
    )
