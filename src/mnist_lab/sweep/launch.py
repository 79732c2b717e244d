"""From a config and settings to a running sweep: every room's part is chosen and joined here."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace

import optuna

from mnist_lab.data import Dataset, load_dataset, shared
from mnist_lab.errors import InterruptedSweep, MnistLabError, ServiceError, UsageError
from mnist_lab.execution import (
    Executor,
    FigureProcess,
    LocalExecutor,
    TrialFiles,
    WorkerSpec,
    may_fork,
    memory_cap,
    plan_workers,
    warm_up,
)
from mnist_lab.publish import (
    BackgroundWriter,
    TrackerFactory,
    TrackerWriter,
    connect_mlflow,
    make_figure_process,
)
from mnist_lab.search import grid_points, make_halving, make_pruner, make_sampler
from mnist_lab.settings import Settings
from mnist_lab.spaces import Params, SearchSpace, get_space, is_shipped, trust
from mnist_lab.study import (
    SingleWriterStorage,
    SweepConfig,
    connect,
    create_study,
    fingerprint,
    ledger,
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
from mnist_lab.tracking import StudyRecord, Tracker
from mnist_lab.training import Runtime, known_precision


def launch(
    config: SweepConfig,
    settings: Settings,
    *,
    listener: Listener = lambda _: None,
    make_tracker: TrackerFactory = connect_mlflow,
    trainer: str = WorkerSpec.trainer,
) -> SweepResult:
    """Run or resume a sweep.

    Args:
        make_tracker: MLflow by default; given by tests and by measurements of what tracking costs.
        trainer: ``module:function`` that workers run a job with.

    Raises:
        MnistLabError: whatever is wrong with the config, before anything is trained; or a study
            storage that was lost while it ran.
    """
    warm_up()
    if config.grid and config.sampler != "grid":
        raise UsageError(
            "Values of a grid are for the sampler 'grid'.",
            safe="Nothing was trained.",
            next_step="Add: --sampler grid",
        )
    space = get_space(config.space)
    dataset = load_dataset(config.dataset, data_folder=settings.data_folder)
    name = study_name(config, space, dataset)
    points = _queued_points(config, space)
    pruner = make_pruner(config.pruner, epochs=config.epochs)
    # A sampler or device that is not there is refused now, before there is a study.
    make_sampler(config.sampler, seed=config.seed, trial=0, fixed=config.set)
    _plan(config, at_most=config.trials)
    with ExitStack() as held:
        held.enter_context(translate_storage_errors(settings))
        require_writable(settings)
        held.enter_context(lock_study(settings.work, name))
        storage = SingleWriterStorage(connect(settings))
        is_new = name not in optuna.get_all_study_names(storage)
        study = create_study(storage, name, fingerprint(config, space, dataset), pruner=pruner)
        _queue(study, points, space)
        files = TrialFiles(settings.work / name)
        setup = SweepSetup(
            config=_within_grid(config, study),
            study=study,
            space=space,
            dataset=dataset,
            record=_ensure_record(study, config, space, dataset, files),
            files=files,
        )
        try:
            return run_sweep(
                setup,
                settings,
                listener=listener,
                make_tracker=make_tracker,
                trainer=trainer,
                looks=not is_shipped(space.reference) and not ledger.rank(study),
            )
        except MnistLabError as error:
            if is_new and not any(map(ledger.is_begun, study.get_trials(deepcopy=False))):
                # Refused before its first trial: a corrected file may have its name.
                optuna.delete_study(study_name=name, storage=storage)
                if str(files.work) not in str(error):  # else it names the log in there
                    shutil.rmtree(files.work, ignore_errors=True)
            raise


@dataclass(frozen=True, kw_only=True)
class SweepSetup:
    """A study that is open and held, and what its trials are made of."""

    config: SweepConfig
    study: optuna.Study
    space: SearchSpace
    dataset: Dataset
    record: StudyRecord
    files: TrialFiles


def run_sweep(
    setup: SweepSetup,
    settings: Settings,
    *,
    listener: Listener,
    make_tracker: TrackerFactory,
    trainer: str,
    looks: bool = False,
) -> SweepResult:
    """Bring a study to its total of trials: start workers, artist and projector, and supervise.

    ``looks``: the space is tried with one batch before.
    """
    config, study, files = setup.config, setup.study, setup.files
    trust(settings, setup.space)  # its user has named it here, and it is run now
    missing = config.trials - len(ledger.own_trials(study, ledger.FINISHED))
    executor = _make_executor(setup, settings, trainer, missing=missing)
    artist = make_figure_process(settings, setup.dataset.source, setup.dataset.digest, files)
    with ExitStack() as held:
        stop = held.enter_context(answer_signals())
        if missing > 0:
            held.enter_context(shared(setup.dataset, files.shared_data))
        held.enter_context(closing(executor))
        held.enter_context(closing(artist))
        # Workers that import by themselves do it while MLflow is imported here; so does the template,
        # which the others wait for.
        looks = looks and missing > 0
        alone = any(each.gpu for each in _plan(config, at_most=missing)) or not may_fork() or looks
        if missing > 0 and alone:
            executor.start()
        if looks:
            check_space_first(executor, config, setup.space, files.work, stop)
        projector = _start_projector(settings, setup, make_tracker, artist)
        if missing > 0 and not alone:
            executor.start()
        supervisor = Supervisor(
            config=config,
            study=study,
            space=setup.space,
            executor=executor,
            projector=projector,
            files=files,
            stop=stop,
            halving=make_halving(
                config.pruner,
                trials=config.trials,
                epochs=config.epochs,
                seed=config.seed,
                whole=_find_initial_points(study, config, setup.space),
            ),
            listener=listener,
        )
        return _run(supervisor, stop)


def _run(supervisor: Supervisor, stop: StopRequest) -> SweepResult:
    try:
        return supervisor.run()
    except KeyboardInterrupt:  # a second signal, or SIGTERM's grace is over
        raise InterruptedSweep(
            "Interrupted in the middle of an epoch.",
            safe="Every epoch before it is kept.",
            exit_code=stop.exit_code or 130,
        ) from None


def _start_projector(
    settings: Settings,
    setup: SweepSetup,
    make_tracker: TrackerFactory,
    artist: FigureProcess,
) -> BackgroundWriter:
    """A database on this machine is opened, and refused if it does not fit, before anything is
    trained; a server may come later."""
    record, first = setup.record, list[Tracker]()
    if settings.tracks_locally:
        with suppress(ServiceError):  # locked by somebody: the projector will try again
            first.append(make_tracker(settings, record))
    projection = TrackerWriter(
        record,
        lambda: first.pop() if first else make_tracker(settings, record),
        setup.files,
        draw=artist.draw,
        draw_dataset=artist.draw_dataset,
        stop_drawing=artist.close,
    )
    projector = BackgroundWriter(projection, reached=bool(first), local=settings.tracks_locally)
    projector.start()
    return projector


def _plan(config: SweepConfig, *, at_most: int) -> tuple[Runtime, ...]:
    return plan_workers(
        workers=config.workers,
        device=config.device,
        workers_per_gpu=config.workers_per_gpu,
        at_most=at_most,
    )


def _queued_points(config: SweepConfig, space: SearchSpace) -> list[Params]:
    """The known points; between a grid's points only the first of them."""
    points = _initial_points(config, space)
    if config.sampler == "grid":
        return points[:1] + list(grid_points(space, config.grid, config.set))
    return points[: config.trials]


def _initial_points(config: SweepConfig, space: SearchSpace) -> list[Params]:
    """The baseline, changed by ``config.set``; then the space's starts, changed as well."""
    if space.asks:  # the defaults, which the code itself knows
        return [{}]
    points: list[Params] = [space.point(config.set)]
    for start in space.starts:
        values = {**space.defaults, **start, **config.set}
        points.append(space.draw(lambda name, _, values=values: values[name]))  # type: ignore[misc]
    return points


def _find_initial_points(study: optuna.Study, config: SweepConfig, space: SearchSpace) -> list[int]:
    """The trials that were queued with a known point."""
    trials = study.get_trials(deepcopy=False)
    if space.asks:
        return [trial.number for trial in trials if ledger.is_baseline(trial)]
    known = _initial_points(config, space)
    return [trial.number for trial in trials if ledger.read_queued(trial) in known]


def _queue(study: optuna.Study, points: Sequence[Params], space: SearchSpace) -> None:
    """Queue those of ``points`` that the study does not have; it may be cut off in between."""
    trials = study.get_trials(deepcopy=False)
    there = [
        ledger.read_queued(trial)
        for trial in trials
        if not space.asks or ledger.takes_defaults(trial)  # drawn points were not queued here
    ]
    for point in points:
        if point not in there:  # a grid may have the baseline, too
            there.append(point)
            baseline = point == space.baseline
            ledger.queue_point(study, point, baseline=baseline, defaults=space.asks)


def _within_grid(config: SweepConfig, study: optuna.Study) -> SweepConfig:
    """A grid ends with its points, however many trials were asked for."""
    if config.sampler != "grid":
        return config
    return replace(config, trials=min(config.trials, len(ledger.own_trials(study))))


def _ensure_record(
    study: optuna.Study,
    config: SweepConfig,
    space: SearchSpace,
    dataset: Dataset,
    files: TrialFiles,
) -> StudyRecord:
    """The study's record, made when the study is."""
    record = ledger.read_study(study)
    if record is None:
        record = make_record(study.study_name, config, space, dataset)
        ledger.write_study(study, record)
    files.adopt(record.id)
    return record


def _make_executor(
    setup: SweepSetup, settings: Settings, trainer: str, *, missing: int
) -> Executor:
    config, precision = setup.config, known_precision(settings.precision)
    specs = [
        WorkerSpec(
            index=index,
            runtime=replace(runtime, precision=precision),
            dataset=setup.files.shared_data,
            log=setup.files.work / f"worker-{index}.log",
            trainer=trainer,
        )
        for index, runtime in enumerate(_plan(config, at_most=missing))
    ]
    return LocalExecutor(specs, memory_cap=memory_cap(len(specs), limit_mb=config.worker_memory))
