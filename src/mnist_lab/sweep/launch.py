"""From a config and settings to a running sweep: every room's part is chosen and joined here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import optuna

from mnist_lab.data import Dataset, load_dataset
from mnist_lab.execution import Executor, LocalExecutor, plan_workers
from mnist_lab.execution.worker import WorkerSpec
from mnist_lab.settings import Settings
from mnist_lab.spaces import SearchSpace, get_space
from mnist_lab.spaces.space import Params
from mnist_lab.sweep import ledger
from mnist_lab.sweep.config import SweepConfig
from mnist_lab.sweep.files import TrialFiles
from mnist_lab.sweep.progress import SweepResult
from mnist_lab.sweep.signals import answer_signals
from mnist_lab.sweep.strategies import grid_points, make_pruner, make_sampler
from mnist_lab.sweep.study import connect, create_study, fingerprint, hold, study_name
from mnist_lab.sweep.supervisor import Listener, Supervisor
from mnist_lab.tracking import StudyRecord, Tracker
from mnist_lab.training import Runtime

TrackerFactory = Callable[[StudyRecord], Tracker]


def launch(
    config: SweepConfig,
    settings: Settings,
    *,
    listener: Listener = lambda _: None,
    make_tracker: TrackerFactory | None = None,
    trainer: str = WorkerSpec.trainer,
) -> SweepResult:
    """Run or resume a sweep.

    Args:
        make_tracker: MLflow by default; given by tests and by measurements of what tracking costs.
        trainer: ``module:function`` that workers run a job with.

    Raises:
        MnistLabError: whatever is wrong with the config, before anything is trained.
    """
    space = get_space(config.space)
    dataset = load_dataset(config.dataset, data_folder=settings.data_folder)
    name = study_name(config, space, dataset)
    points = _first_points(config, space)
    pruner = make_pruner(config.pruner, epochs=config.epochs)
    # A sampler or device that is not there is refused now, before there is a study.
    make_sampler(config.sampler, seed=config.seed, trial=0, fixed=config.set)
    _plan(config, at_most=config.trials)
    with hold(settings.work, name):
        study = create_study(
            connect(settings.storage), name, fingerprint(config, space, dataset), pruner=pruner
        )
        _queue(study, points, space)
        missing = config.trials - len(study.get_trials(deepcopy=False, states=ledger.FINISHED))
        work = settings.work / name
        runtimes = _plan(config, at_most=missing)
        executor = _make_executor(runtimes, settings, dataset, work, trainer)
        with answer_signals() as stop, closing(executor):
            if missing > 0:
                executor.start()
            # The data set is drawn once a study, not again when it is resumed.
            draw_in = None if study.user_attrs.get("run") else work
            record = _make_record(config, space, dataset, name, draw_in)
            return Supervisor(
                config=config,
                study=study,
                space=space,
                record=record,
                executor=executor,
                tracker=(make_tracker or partial(_mlflow_tracker, settings))(record),
                files=TrialFiles(work),
                stop=stop,
                listener=listener,
            ).run()


def _plan(config: SweepConfig, *, at_most: int) -> tuple[Runtime, ...]:
    return plan_workers(
        workers=config.workers,
        device=config.device,
        workers_per_gpu=config.workers_per_gpu,
        at_most=at_most,
    )


def _first_points(config: SweepConfig, space: SearchSpace) -> list[Params]:
    """The baseline, changed by ``config.set``, and a grid's points if one was asked for."""
    points: list[Params] = [space.point(config.set)]
    if config.sampler == "grid":
        points += grid_points(space, config.grid, config.set)
    return points


def _queue(study: optuna.Study, points: Sequence[Params], space: SearchSpace) -> None:
    """Queue ``points`` as the study's first trials: once, even if it is cut off in between."""
    for point in points[len(study.get_trials(deepcopy=False)) :]:
        baseline = {"baseline": True} if point == space.baseline else None
        study.enqueue_trial(dict(point), user_attrs=baseline)


def _make_executor(
    runtimes: Sequence[Runtime], settings: Settings, dataset: Dataset, work: Path, trainer: str
) -> Executor:
    return LocalExecutor(
        [
            WorkerSpec(
                index=index,
                runtime=runtime,
                dataset=dataset.source,
                data_folder=settings.data_folder,
                log=work / f"worker-{index}.log",
                trainer=trainer,
            )
            for index, runtime in enumerate(runtimes)
        ]
    )


def _make_record(
    config: SweepConfig, space: SearchSpace, dataset: Dataset, name: str, draw_in: Path | None
) -> StudyRecord:
    figures = None
    if draw_in is not None:
        from mnist_lab.evaluation.figures import draw_dataset, save

        figures = draw_in / "dataset"
        save(draw_dataset(dataset), figures)
    return StudyRecord(
        name=name,
        family=space.name,
        space=space.id,
        dataset=dataset,
        settings={
            "sampler": config.sampler,
            "pruner": config.pruner,
            "epochs": str(config.epochs),
            "seed": str(config.seed),
            "space_digest": space.digest,
            "optuna": optuna.__version__,
            **{f"set.{key}": str(value) for key, value in config.set.items()},
        },
        figures=figures,
    )


def _mlflow_tracker(settings: Settings, record: StudyRecord) -> Tracker:
    # Imported late: it takes 3 s, in which the workers import TensorFlow.
    from mnist_lab.tracking.mlflow_tracker import MlflowTracker, experiment_name
    from mnist_lab.tracking.store import artifact_location, open_client

    experiment = experiment_name(record.dataset.name, record.family)
    return MlflowTracker(open_client(settings), artifact_location(settings, experiment))
