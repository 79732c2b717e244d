"""``confirm``: train a study's best configurations again with fresh seeds; resumable like a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TypedDict, Unpack

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
    Replica,
    SingleWriterStorage,
    TrialFacts,
    confirm_name,
    connect,
    create_study,
    is_confirmation,
    load_original_dataset,
    load_original_space,
    lock_study,
    make_record,
    open_study,
    read_confirmation,
    read_replicas,
    replica_of,
    require_writable,
    searched_name,
    second_replicas,
    translate_storage_errors,
)
from mnist_lab.sweep.launch import SweepSetup, run_sweep
from mnist_lab.sweep.progress import Listener, SweepResult
from mnist_lab.tracking import StudyRecord


class Options(TypedDict, total=False):
    """How replicas are trained.

    ``workers``, ``device`` and ``executor`` are those of a sweep; ``dataset`` says where the study's
    data lie now, they are looked for otherwise; the others are for tests.
    """

    workers: int | None
    device: str | None
    executor: str
    dataset: str | None
    listener: Listener
    make_tracker: TrackerFactory
    make_figures: FiguresFactory
    trainer: str


def confirm(
    settings: Settings, name: str, design: Design, **options: Unpack[Options]
) -> tuple[SweepResult | None, Confirmation | None]:
    """Train the replicas of ``design`` that study ``name`` does not have yet, for all their epochs.

    First one of each of the best trials, then a second of the better half. Those that failed for a
    transient reason are trained again, once a call.

    Returns the result of the last training, None if nothing was missing, and the comparison, None while
    replicas are missing.

    Raises:
        UsageError: the study is a confirmation itself.
        MnistLabError: the study has no complete trial.
        ConfigurationError, DataError: space or data are not what the study was made with.
    """
    searched = _open(settings, name)
    found, result = read_replicas(searched), None
    first = design.first(searched)
    known = [*first, *second_replicas(searched, first, found)]
    again = [each for each in known if _is_worth_a_retry(found.get(each))]
    while wanted := list(dict.fromkeys([*again, *design.missing(searched)])):
        result = train_replicas(settings, name, wanted, **options)
        if result.signal or result.stopped:
            break
        again, searched = [], open_study(settings, name)
    return result, read_confirmation(open_study(settings, name), design)


def train_replicas(
    settings: Settings, name: str, wanted: Sequence[Replica], **options: Unpack[Options]
) -> SweepResult:
    """Train ``wanted`` replicas of study ``name``; resumable like a sweep.

    Raises:
        MnistLabError: as ``confirm``.
    """
    searched = _open(settings, name)
    record = searched.record
    dataset = options.get("dataset")
    space, data = load_original_space(record), load_original_dataset(record, settings, dataset)
    executor = options.get("executor", "local")
    config = replace(
        _config(record, options.get("workers"), options.get("device")), executor=executor
    )
    fresh = make_record(confirm_name(name), config, space, data, home=settings.root)
    record = replace(fresh, confirms=record.id, fixed=record.fixed)
    with ExitStack() as held:
        held.enter_context(translate_storage_errors(settings))
        require_writable(settings)
        lock = held.enter_context(lock_study(settings, record.name))
        study = create_study(SingleWriterStorage(connect(settings)), record)
        files = TrialFiles(settings.work / study.name)
        files.adopt(study.record.id)
        _queue(study, searched, wanted)
        total = len(study.trials())
        setup = SweepSetup(
            config=replace(config, trials=total, keep_models=total),
            study=study,
            space=space,
            dataset=data,
            files=files,
            lock=lock,
        )
        return run_sweep(
            setup,
            settings,
            listener=options.get("listener", lambda _: None),
            make_tracker=options.get("make_tracker", connect_mlflow),
            make_figures=options.get("make_figures", make_figures),
            trainer=options.get("trainer", WorkerSpec.trainer),
        )


def _open(settings: Settings, name: str) -> Ledger:
    if is_confirmation(name):
        searched = searched_name(name)
        raise UsageError(
            f"{name!r} is the confirmation of {searched!r} already.",
            next_step=f"For more of its trials: mnist-lab confirm {searched} --top 10",
        )
    study = open_study(settings, name)
    if not study.is_managed or not study.ranked():
        raise MnistLabError(
            f"Study {name!r} has no complete trial.",
            safe="Nothing was trained.",
            next_step="See: mnist-lab studies",
        )
    return study


def _is_worth_a_retry(trial: TrialFacts | None) -> bool:
    return trial is not None and trial.state == TrialState.FAIL and trial.reason in TRANSIENT


def _queue(study: Ledger, searched: Ledger, wanted: Sequence[Replica]) -> None:
    """Queue those of ``wanted`` that do not wait already; they may be interrupted in between."""
    there = {replica_of(trial) for trial in study.trials() if not trial.is_finished}
    base = int(searched.record.settings["seed"])
    for each in wanted:
        if each not in there:
            study.queue_replica(
                searched.trial(each.of).params,
                of=each.of,
                seed=each.seed(base),
                left_out=each.left_out,
                round_=each.round,
            )


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
