"""``confirm``: train a study's best configurations again with fresh seeds; resumable like a sweep."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from optuna.trial import TrialState

from mnist_lab.config import SweepConfig
from mnist_lab.errors import MnistLabError, UsageError
from mnist_lab.execution import TrialFiles, WorkerSpec
from mnist_lab.publish import FiguresFactory, TrackerFactory, connect_mlflow, make_figures
from mnist_lab.search import TRANSIENT
from mnist_lab.settings import Settings
from mnist_lab.study import (
    Confirmation,
    Design,
    Ledger,
    SingleWriterStorage,
    confirm_name,
    connect,
    create_study,
    is_confirmation,
    load_original_dataset,
    load_original_space,
    lock_study,
    make_record,
    open_study,
    pair_of,
    read_confirmation,
    require_writable,
    searched_name,
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
    executor: str = "local",
    dataset: str | None = None,
    listener: Listener = lambda _: None,
    make_tracker: TrackerFactory = connect_mlflow,
    make_figures: FiguresFactory = make_figures,
    trainer: str = WorkerSpec.trainer,
) -> tuple[SweepResult, Confirmation | None]:
    """Train the replicas of ``design`` that study ``name`` does not have yet, for all their epochs.

    ``dataset`` says where the study's data lie now; they are looked for otherwise.

    Raises:
        UsageError: the study is a confirmation itself.
        MnistLabError: the study has no complete trial.
        ConfigurationError, DataError: space or data are not what the study was made with.
    """
    searched = _open(settings, name)
    record = searched.record
    space, data = load_original_space(record), load_original_dataset(record, settings, dataset)
    config = replace(_config(record, workers, device), executor=executor)
    fresh = make_record(confirm_name(name), config, space, data, home=settings.root)
    wanted = replace(fresh, confirms=record.id, fixed=record.fixed)
    with ExitStack() as held:
        held.enter_context(translate_storage_errors(settings))
        require_writable(settings)
        lock = held.enter_context(lock_study(settings, wanted.name))
        study = create_study(SingleWriterStorage(connect(settings)), wanted)
        files = TrialFiles(settings.work / study.name)
        files.adopt(study.record.id)
        _queue(study, searched, design)
        setup = SweepSetup(
            config=_for_trials(config, study),
            study=study,
            space=space,
            dataset=data,
            files=files,
            lock=lock,
        )
        result = run_sweep(
            setup,
            settings,
            listener=listener,
            make_tracker=make_tracker,
            make_figures=make_figures,
            trainer=trainer,
        )
    return result, read_confirmation(open_study(settings, name), design)


def _open(settings: Settings, name: str) -> Ledger:
    if is_confirmation(name):
        searched = searched_name(name)
        raise UsageError(
            f"{name!r} is the confirmation of {searched!r} already.",
            next_step=f"For more seeds: mnist-lab confirm {searched} --seeds 5",
        )
    study = open_study(settings, name)
    if not study.is_managed or not study.ranked():
        raise MnistLabError(
            f"Study {name!r} has no complete trial.",
            safe="Nothing was trained.",
            next_step="See: mnist-lab studies",
        )
    return study


def _queue(study: Ledger, searched: Ledger, design: Design) -> None:
    """Queue the wanted replicas that are missing, or failed for a transient reason."""
    there = {
        pair_of(trial)
        for trial in study.trials()
        if trial.state != TrialState.FAIL or trial.reason not in TRANSIENT
    }
    for of, seed in design.replicas(searched):
        if (of, seed) not in there:
            study.queue_replica(searched.trial(of).params, of=of, seed=seed)


def _config(searched: StudyRecord, workers: int | None, device: str | None) -> SweepConfig:
    return SweepConfig(
        space=searched.reference,
        study=confirm_name(searched.name),
        sampler="grid",  # whose points are queued; when they are done, so is the study
        pruner="none",
        epochs=searched.epochs,
        objective=searched.objective,
        class_weights=searched.class_weights,
        workers=workers,
        device=device,
        dataset=searched.dataset_source,
        seed=int(searched.settings["seed"]),
    )


def _for_trials(config: SweepConfig, study: Ledger) -> SweepConfig:
    trials = study.trials()
    # One model of each configuration: which will be chosen is known at the end only.
    models = len({pair_of(trial)[0] for trial in trials})
    return replace(config, trials=len(trials), keep_models=models)
