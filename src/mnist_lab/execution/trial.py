"""What a worker does with one job: build, train, evaluate, and leave the trial's files."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import traceback
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lab import __version__
from mnist_lab.data import IMAGE_SHAPE, Dataset
from mnist_lab.errors import MnistLabError, is_disk_full
from mnist_lab.evaluation import Evaluation, evaluate
from mnist_lab.evaluation.drawing import save_predictions
from mnist_lab.execution.files import ARTIFACTS, CHECKPOINTS, MODEL_FILE, PREDICTIONS
from mnist_lab.execution.messages import (
    DISK_ERROR,
    DISK_FULL,
    DIVERGED,
    ERROR,
    INVALID,
    OUT_OF_MEMORY,
    TrialFailed,
    TrialFinished,
    TrialJob,
)
from mnist_lab.spaces.registry import load_space
from mnist_lab.training import Checkpoints, Diverged, History, Report, TrainingPlan, train
from mnist_lab.training.engine import VALIDATION_BATCH

if TYPE_CHECKING:
    import keras

    from mnist_lab.spaces import SearchSpace

DEFAULT_BATCH_SIZE = 128  # for spaces that have no parameter of that name
DETAIL_LENGTH = 300  # of a failure's message, as it stands in the ledger
DISK_ERRORS = (errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE)


class InvalidModel(Exception):
    """The space's build function could not make a model of these parameters."""


def run_trial(job: TrialJob, dataset: Dataset, report: Report) -> TrialFinished | TrialFailed:
    """Run ``job`` on ``dataset``, from its last checkpoint if there is one.

    Whatever goes wrong fails the trial, and the worker lives on.
    """
    import keras

    try:
        return _run(job, dataset, report)
    except Diverged as error:
        return TrialFailed(trial=job.trial, reason=DIVERGED, detail=str(error))
    except InvalidModel as error:
        return TrialFailed(trial=job.trial, reason=INVALID, detail=str(error))
    except MemoryError as error:
        return TrialFailed(trial=job.trial, reason=OUT_OF_MEMORY, detail=str(error))
    except Exception as error:
        with suppress(OSError):  # of the same full disk
            traceback.print_exc()  # into the worker's log
        reason, detail = _reason(error), f"{type(error).__name__}: {error}"[:DETAIL_LENGTH]
        if reason in (DISK_FULL, DISK_ERROR):
            with suppress(OSError):
                detail += f" in {job.folder}, {shutil.disk_usage(job.folder).free:,} bytes free"
        return TrialFailed(trial=job.trial, reason=reason, detail=detail)
    finally:
        keras.utils.clear_session()  # or every model of this process stays in memory


def _reason(error: Exception) -> str:
    if is_disk_full(error):
        return DISK_FULL
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return DISK_ERROR
    # TensorFlow's own out-of-memory error, which cannot be imported here.
    return OUT_OF_MEMORY if type(error).__name__ == "ResourceExhaustedError" else ERROR


def _run(job: TrialJob, dataset: Dataset, report: Report) -> TrialFinished:
    import keras

    space = load_space(job.space)
    plan = TrainingPlan(
        epochs=job.epochs,
        batch_size=int(job.params.get("batch_size") or DEFAULT_BATCH_SIZE),
        seed=job.seed,
        one_cycle=job.params.get("schedule") == "one_cycle",
        shift=int(job.params.get("shift") or 0),
    )
    keras.utils.set_random_seed(job.seed)
    model = _build(space, job, dataset)
    folder = Path(job.folder)
    history = train(
        model,
        training=dataset.train,
        validation=dataset.validation,
        plan=plan,
        report=report,
        checkpoints=Checkpoints(folder / CHECKPOINTS, job.identity) if job.checkpoints else None,
    )
    probabilities = model.predict(dataset.validation.images, batch_size=VALIDATION_BATCH, verbose=0)
    evaluation = evaluate(probabilities, dataset.validation.labels)

    save_predictions(folder / PREDICTIONS, probabilities, history.epochs)
    environment = _environment(history.precision)
    _write_records(folder / ARTIFACTS, job, space, dataset, model, evaluation, environment)
    # Without the optimizer, whose state is two thirds of the file and no use in predicting.
    keras.Model(model.inputs, model.outputs, name=model.name).save(folder / MODEL_FILE)
    return TrialFinished(
        trial=job.trial,
        best_epoch=history.best.epoch,
        scalars=_scalars(history, evaluation, model),
        environment=environment,
    )


def _build(space: SearchSpace, job: TrialJob, dataset: Dataset) -> keras.Model:
    if space.digest != job.space_digest:
        raise InvalidModel(f"{job.space} has changed since the sweep began")
    broken = space.broken_constraint(job.params)  # a file's constraints are code: known here only
    if broken:
        raise InvalidModel(f"not allowed: {broken}")
    try:
        return space.build(job.params, IMAGE_SHAPE, dataset.classes)
    except (ValueError, TypeError, KeyError, MnistLabError) as error:
        raise InvalidModel(f"{type(error).__name__}: {error}") from error


def _scalars(history: History, evaluation: Evaluation, model: keras.Model) -> dict[str, float]:
    return {
        **history.scalars(),
        "parameters": float(model.count_params()),
        **evaluation.scalars("val"),
    }


def _write_records(
    folder: Path,
    job: TrialJob,
    space: SearchSpace,
    dataset: Dataset,
    model: keras.Model,
    evaluation: Evaluation,
    environment: dict[str, str],
) -> None:
    for name, document in evaluation.to_json().items():
        _write(folder / "evaluation" / f"{name}.json", json.dumps(document, indent=1))
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=88)
    _write(folder / "model" / "summary.txt", "\n".join(lines) + "\n")
    record = asdict(job)
    del record["folder"], record["checkpoints"]
    record["space_declaration"] = space.to_dict()
    record["dataset"] = {
        "name": dataset.name,
        "train": dataset.train.digest,
        "validation": dataset.validation.digest,
    }
    record["environment"] = environment
    _write(folder / "config.json", json.dumps(record, indent=1))


def _environment(precision: str) -> dict[str, str]:
    """What a result may depend on beside job and data."""
    import keras

    return {
        "mnist-lab": __version__,
        **{package: version(package) for package in ("keras", "tensorflow", "numpy")},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "backend": keras.config.backend(),
        "precision": precision,
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
