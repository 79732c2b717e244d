"""``launch``: from a config and settings to a running sweep. The parts of all rooms are joined here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from threading import Thread

import optuna

from mnist_lab.config import SweepConfig
from mnist_lab.data import Dataset, Progress, load_dataset, shared
from mnist_lab.errors import InterruptedSweep, MnistLabError, UsageError
from mnist_lab.execution import (
    Executor,
    ExecutorSpec,
    TrialFiles,
    WorkerSpec,
    imports_by_itself,
    make_executor,
    require_executor,
    warm_up,
)
from mnist_lab.publish import (
    FiguresFactory,
    TrackerFactory,
    connect_mlflow,
    make_figures,
    start_writer,
)
from mnist_lab.search import grid_points, make_pruner, make_sampler, make_scheduler
from mnist_lab.settings import Settings
from mnist_lab.spaces import Params, SearchSpace, get_space, is_shipped, trust
from mnist_lab.study import (
    FINISHED,
    Ledger,
    SingleWriterStorage,
    StudyLock,
    connect,
    create_study,
    lock_study,
    make_record,
    require_writable,
    study_name,
    translate_storage_errors,
)
from mnist_lab.sweep.check_space import check_space_first
from mnist_lab.sweep.progress import Listener, SweepResult
from mnist_lab.sweep.signals import StopRequest, answer_signals
from mnist_lab.sweep.supervisor import Supervisor
from mnist_lab.sweep.warm_start import NONE, find_warm_points
from mnist_lab.tracking import StudyRecord
from mnist_lab.training import known_precision

CONNECT_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class SweepSetup:
    """An open and locked study, and the parts that its trials are made of."""

    config: SweepConfig
    study: Ledger
    space: SearchSpace
    dataset: Dataset
    files: TrialFiles
    lock: StudyLock


def launch(
    config: SweepConfig,
    settings: Settings,
    *,
    listener: Listener = lambda _: None,
    make_tracker: TrackerFactory = connect_mlflow,
    make_figures: FiguresFactory = make_figures,
    trainer: str = WorkerSpec.trainer,
    loaded: Callable[[Dataset], None] = lambda _: None,
    progress: Progress = lambda done, total: None,
) -> SweepResult:
    """Run or resume a sweep.

    Args:
        loaded: called with the data, before anything is trained.
        progress: called with the counts of pictures decoded and of all.
        make_tracker: MLflow by default; given by tests and by measurements of what tracking costs.
        make_figures: a process that draws, by default.
        trainer: ``module:function`` that workers run a job with.

    Raises:
        MnistLabError: whatever is wrong with the config, before anything is trained; or a study
            storage that was lost while it ran.
    """
    if config.executor != "inline":
        warm_up()
    _require_known_names(config, settings)
    get_space(config.space)  # a wrong name is said before thousands of pictures are decoded
    dataset = load_dataset(
        config.dataset,
        image_size=config.image_size,
        most_duplicates=config.most_duplicates,
        data_folder=settings.data_folder,
        progress=progress,
    )
    loaded(dataset)
    found = get_space(config.space, colour=dataset.form.is_colour)
    space = found.shaped(dataset.form.shape)
    name = study_name(config, space, dataset)
    record = make_record(name, config, space, dataset, home=settings.root)
    points = _points_to_queue(config, space)
    with ExitStack() as held:
        held.enter_context(translate_storage_errors(settings))
        require_writable(settings)
        lock = held.enter_context(lock_study(settings, record.name))
        study, files, is_new = _open(config, settings, record, space, points)
        setup = SweepSetup(
            config=_within_grid(config, study),
            study=study,
            space=space,
            dataset=dataset,
            files=files,
            lock=lock,
        )
        try:
            return run_sweep(
                setup,
                settings,
                listener=listener,
                make_tracker=make_tracker,
                make_figures=make_figures,
                trainer=trainer,
                checks_space=not is_shipped(space.reference) and not study.ranked(),
            )
        except MnistLabError as error:
            if is_new and not any(trial.is_begun for trial in study.trials()):
                _delete(
                    setup, keeps_files=str(files.work) in str(error)
                )  # it names the log in there
            raise


def _open(
    config: SweepConfig,
    settings: Settings,
    record: StudyRecord,
    space: SearchSpace,
    points: Sequence[Params],
) -> tuple[Ledger, TrialFiles, bool]:
    """Open or create the study, with the points that it begins with queued; and whether it is new."""
    storage = SingleWriterStorage(connect(settings))
    is_new = record.name not in optuna.get_all_study_names(storage)
    # Looked for first: a study that is not there must leave no empty one behind.
    find_warm = partial(
        find_warm_points, config.warm_start, settings, space, fixed=config.set, known=points
    )
    warm = find_warm() if is_new else None
    study = create_study(storage, record, pruner=make_pruner(config.pruner, epochs=config.epochs))
    files = TrialFiles(settings.work / study.name)
    files.adopt(study.record.id)
    _queue(study, points, space)
    if config.warm_start != NONE and study.warm_points is None:
        # Behind the space's own starts, which reached a target sooner (experiments/LOG.md).
        warm = (find_warm() if warm is None else warm)[: max(0, config.trials - len(points))]
        _queue(study, [each.point for each in warm], space)
        study.write_warm_points(warm)
    return study, files, is_new


def _require_known_names(config: SweepConfig, settings: Settings) -> None:
    """Refuse a grid without its sampler, and names and devices that are not there."""
    if config.grid and config.sampler != "grid":
        raise UsageError(
            "Values of a grid are for the sampler 'grid'.",
            safe="Nothing was trained.",
            next_step="Add: --sampler grid",
        )
    if config.warm_start != NONE and config.sampler == "grid":
        raise UsageError(
            "A grid has its own points: it takes none of an earlier study.",
            safe="Nothing was trained.",
            next_step="Leave out --warm-start, or take another --sampler.",
        )
    make_pruner(config.pruner, epochs=config.epochs)
    make_sampler(config.sampler, seed=config.seed, trial=0, fixed=config.set)
    files = TrialFiles(settings.work)
    spec = _executor_spec(
        config, at_most=config.trials, files=files, trainer=WorkerSpec.trainer, precision=None
    )
    require_executor(config.executor, spec)


def _delete(setup: SweepSetup, *, keeps_files: bool) -> None:
    """Delete a study that was refused before its first trial: a corrected file may have its name."""
    optuna.delete_study(study_name=setup.study.name, storage=setup.study.storage)
    if not keeps_files:
        shutil.rmtree(setup.files.work, ignore_errors=True)


def run_sweep(
    setup: SweepSetup,
    settings: Settings,
    *,
    listener: Listener,
    make_tracker: TrackerFactory,
    make_figures: FiguresFactory,
    trainer: str,
    checks_space: bool = False,
) -> SweepResult:
    """Bring a study to its total of trials: start workers, figures and the writer, and supervise.

    ``checks_space``: the space is tried with one batch before.
    """
    config, study, files = setup.config, setup.study, setup.files
    trust(settings, setup.space)  # its user has named it here, and it is run now
    missing = max(0, config.trials - len(study.trials(FINISHED)))
    checks_space = checks_space and missing > 0
    spec = _executor_spec(
        config,
        at_most=missing,
        files=files,
        trainer=trainer,
        precision=known_precision(settings.precision),
    )
    executor = make_executor(config.executor, spec)
    record = replace(study.record, dataset_source=setup.dataset.source)  # it may lie elsewhere now
    with ExitStack() as held:
        stop = held.enter_context(answer_signals())
        if missing:
            held.enter_context(shared(setup.dataset, files.shared_data))
        held.enter_context(closing(executor))
        figures = held.enter_context(closing(make_figures(settings, record, files)))
        # Workers that import by themselves do it while MLflow is imported here; so does the template,
        # which the others wait for.
        by_themselves = imports_by_itself(config.executor, spec)
        starts_first = bool(missing) and (by_themselves or checks_space)
        if starts_first:
            executor.start()
        if starts_first:
            _connect(executor, stop)
        if checks_space:
            check_space_first(executor, config, setup.space, files.work, stop)
        writer = start_writer(settings, record, files, figures, make_tracker)
        if missing and not starts_first:
            executor.start()
            _connect(executor, stop)
        supervisor = Supervisor(
            config=config,
            study=study,
            space=setup.space,
            executor=executor,
            writer=writer,
            files=files,
            stop=stop,
            lock=setup.lock,
            scheduler=make_scheduler(
                config.pruner,
                study,
                trials=config.trials,
                epochs=config.epochs,
                seed=config.seed,
                exempt=_find_initial_points(setup),
            ),
            listener=listener,
        )
        return _run(supervisor, stop)


def _connect(executor: Executor, stop: StopRequest) -> None:
    """Wait until workers can be had: what refuses them is said before a trial is begun."""
    if executor.connect(0.0):
        return
    # Meanwhile this process imports what its writer needs; it takes seconds.
    Thread(target=import_module, args=("mnist_lab.tracking.mlflow_tracker",), daemon=True).start()
    while not executor.connect(CONNECT_SECONDS):
        if stop.requested:
            raise InterruptedSweep("Interrupted.", exit_code=stop.exit_code or 130)


def _run(supervisor: Supervisor, stop: StopRequest) -> SweepResult:
    try:
        return supervisor.run()
    except KeyboardInterrupt:  # a second signal, or SIGTERM's grace is over
        raise InterruptedSweep(
            "Interrupted in the middle of an epoch.",
            safe="Every epoch before it is kept.",
            exit_code=stop.exit_code or 130,
        ) from None


def _points_to_queue(config: SweepConfig, space: SearchSpace) -> list[Params]:
    """The initial points; before a grid's points only the first of them."""
    points = _initial_points(config, space)
    if config.sampler == "grid":
        return points[:1] + list(grid_points(space, config.grid, config.set))
    return points[: config.trials]


def _initial_points(config: SweepConfig, space: SearchSpace) -> list[Params]:
    """The baseline, changed by ``config.set``; then the space's starts, changed as well."""
    if space.asks:  # the defaults, which the code itself has
        return [{}]
    points: list[Params] = [space.point(config.set)]
    for start in space.starts:
        values = {**space.defaults, **start, **config.set}
        points.append(space.draw(lambda name, _, values=values: values[name]))  # type: ignore[misc]
    return points


def _find_initial_points(setup: SweepSetup) -> list[int]:
    """The trials that were queued with an initial point: they are neither paused nor pruned."""
    trials = setup.study.trials()
    if setup.space.asks:
        return [trial.number for trial in trials if trial.baseline]
    known = _initial_points(setup.config, setup.space)
    return [trial.number for trial in trials if trial.queued in known]


def _queue(study: Ledger, points: Sequence[Params], space: SearchSpace) -> None:
    """Queue those of ``points`` that the study does not have; it may be interrupted in between."""
    there = [
        trial.queued
        for trial in study.trials()
        if not space.asks or trial.takes_defaults  # drawn points were not queued here
    ]
    for point in points:
        if point not in there:  # a grid may have the baseline, too
            there.append(point)
            study.queue_point(point, baseline=point == space.baseline, defaults=space.asks)


def _within_grid(config: SweepConfig, study: Ledger) -> SweepConfig:
    """A grid ends with its points, however many trials were asked for."""
    if config.sampler != "grid":
        return config
    return replace(config, trials=min(config.trials, len(study.trials())))


def _executor_spec(
    config: SweepConfig, *, at_most: int, files: TrialFiles, trainer: str, precision: str | None
) -> ExecutorSpec:
    return ExecutorSpec(
        at_most=max(1, at_most),
        dataset=files.shared_data,
        work=files.work,
        trainer=trainer,
        workers=config.workers,
        device=config.device,
        workers_per_gpu=config.workers_per_gpu,
        worker_memory=config.worker_memory,
        precision=precision,
    )
