"""``confirm``: train a study's best configurations again with fresh seeds; resumable like a sweep."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import optuna

from mnist_lab.data import load_dataset
from mnist_lab.errors import ConfigurationError, DataError, MnistLabError, UsageError
from mnist_lab.execution.worker import WorkerSpec
from mnist_lab.settings import Settings
from mnist_lab.spaces import SearchSpace, get_space
from mnist_lab.sweep import ledger
from mnist_lab.sweep.config import SweepConfig
from mnist_lab.sweep.files import TrialFiles
from mnist_lab.sweep.launch import TrackerFactory, Undertaking, conduct, connect_mlflow
from mnist_lab.sweep.mirror import Mirror
from mnist_lab.sweep.progress import SweepResult
from mnist_lab.sweep.replicas import Confirmation, confirm_name, find_replicas, read_confirmation
from mnist_lab.sweep.storage import connect, require_writable, translate_storage_errors
from mnist_lab.sweep.strategies import make_pruner, replica_seed
from mnist_lab.sweep.study import (
    Fingerprint,
    create_study,
    hold,
    make_record,
    open_study,
    read_fingerprint,
)
from mnist_lab.sweep.watch import Listener

LEAST_SEEDS = 2  # one says nothing about noise


def is_confirmed(study: optuna.Study, *, top: int, seeds: int) -> bool:
    """Whether the ``top`` best trials of ``study`` have ``seeds`` finished replicas each."""
    replicas = find_replicas(study)
    if replicas is None:
        return False
    done = replicas.get_trials(deepcopy=False, states=ledger.FINISHED)
    there = {(ledger.read_replica_of(each), ledger.read_planned_seed(each)) for each in done}
    return all(each in there for each in _wanted(study, top=top, seeds=seeds))


def confirm(
    settings: Settings,
    name: str,
    *,
    top: int = 5,
    seeds: int = 3,
    workers: int | None = None,
    device: str | None = None,
    listener: Listener = lambda _: None,
    make_tracker: TrackerFactory = connect_mlflow,
    trainer: str = WorkerSpec.trainer,
) -> tuple[SweepResult, Confirmation | None]:
    """Train the ``top`` best trials of study ``name`` again, each with the same ``seeds`` new seeds,
    for all their epochs; what is there from before is not repeated.

    Raises:
        UsageError: fewer than 1 trial or 2 seeds.
        MnistLabError: the study has no complete trial.
        ConfigurationError, DataError: space or data are not what the study was made with.
    """
    if top < 1 or seeds < LEAST_SEEDS:
        raise UsageError(f"At least 1 trial and {LEAST_SEEDS} seeds are needed.")
    searched = open_study(settings, name)
    made_with, searched_record = read_fingerprint(searched), ledger.read_study(searched)
    if made_with is None or searched_record is None or not ledger.rank(searched):
        raise MnistLabError(
            f"Study {name!r} has no complete trial.",
            safe="Nothing was trained.",
            next_step="See: mnist-lab studies",
        )
    space = _same_space(made_with)
    dataset = load_dataset(made_with.dataset_source, data_folder=settings.data_folder)
    if dataset.digest != made_with.dataset_digest:
        raise DataError(
            f"{made_with.dataset_source} is not the data that the study was made with.",
            safe="Nothing was trained.",
            next_step="Put the former file back.",
        )
    with ExitStack() as held:
        held.enter_context(translate_storage_errors(settings))
        require_writable(settings)
        held.enter_context(hold(settings.work, confirm_name(name)))
        pruner = make_pruner("none", epochs=made_with.epochs)
        study = create_study(
            Mirror(connect(settings)), confirm_name(name), made_with, pruner=pruner
        )
        for of, seed in _wanted(searched, top=top, seeds=seeds):
            if (of, seed) not in _queued(study):
                params = ledger.read_trial(searched, of).params
                ledger.queue_replica(study, params, of=of, seed=seed)
        config = SweepConfig(
            space=space.reference,
            trials=len(study.get_trials(deepcopy=False)),
            study=study.study_name,
            sampler="grid",  # whose points are queued; when they are done, so is the study
            pruner="none",
            epochs=made_with.epochs,
            workers=workers,
            device=device,
            dataset=made_with.dataset_source,
            keep_models=top,
            seed=int(searched_record.settings["seed"]),
        )
        record = ledger.read_study(study)
        if record is None:
            fresh = make_record(study.study_name, config, space, dataset)
            record = replace(fresh, confirms=searched_record.id)
            ledger.write_study(study, record)
        files = TrialFiles(settings.work / study.study_name)
        files.adopt(record.id)
        result = conduct(
            Undertaking(
                config=config,
                study=study,
                space=space,
                dataset=dataset,
                record=record,
                files=files,
            ),
            settings,
            listener=listener,
            make_tracker=make_tracker,
            trainer=trainer,
        )
    return result, read_confirmation(open_study(settings, name))


def _same_space(made_with: Fingerprint) -> SearchSpace:
    space = get_space(made_with.reference)
    if space.digest != made_with.space_digest:
        raise ConfigurationError(
            f"Space {made_with.space} has changed since the study was made.",
            safe="Nothing was trained.",
            next_step="Put the former space back, or sweep the new one under another --study.",
        )
    return space


def _wanted(study: optuna.Study, *, top: int, seeds: int) -> list[tuple[int, int]]:
    """(trial, seed) of each replica: all of one seed, then all of the next, so that what is cut off
    compares like with like."""
    record = ledger.read_study(study)
    base = int(record.settings["seed"]) if record is not None else 0
    best = [trial.number for trial in ledger.rank(study)[:top]]
    return [(of, replica_seed(base, each)) for each in range(seeds) for of in best]


def _queued(study: optuna.Study) -> set[tuple[int | None, int | None]]:
    trials = study.get_trials(deepcopy=False)
    return {(ledger.read_replica_of(each), ledger.read_planned_seed(each)) for each in trials}
