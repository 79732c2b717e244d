"""``run_trial``: build, train and evaluate the model of one job, and write the trial's files."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lab import __version__
from mnist_lab.data import Dataset, leave_out
from mnist_lab.errors import ConfigurationError, first_line, is_disk_full
from mnist_lab.evaluation import Evaluation, evaluate, pack_classes, pack_predictions
from mnist_lab.evaluation.drawing import save_predictions
from mnist_lab.execution.files import (
    ARTIFACTS,
    CHECKPOINTS,
    KEPT_PREDICTIONS,
    MODEL_FILE,
    PREDICTIONS,
)
from mnist_lab.execution.messages import (
    FailureReason,
    TrialBuilt,
    TrialFailed,
    TrialFinished,
    TrialJob,
)
from mnist_lab.spaces import Answers, AskingSpace, Author, answer_default, is_shipped, load_space
from mnist_lab.training import (
    PLAIN,
    VALIDATION_BATCH,
    Checkpoints,
    Diverged,
    History,
    ModelForm,
    Report,
    TrainingPlan,
    around,
    find_form,
    measure_latency,
    require_model,
    save_model,
    train,
)

if TYPE_CHECKING:
    import keras

    from mnist_lab.execution.worker import Supervised
    from mnist_lab.spaces import Params, SearchSpace

DEFAULT_BATCH_SIZE = 128  # for declared spaces that have no parameter of that name
KERAS_BATCH_SIZE = 32  # what ``fit`` takes unless its author says otherwise
DETAIL_LENGTH = 300  # of a failure's message, as it stands in the ledger
DISK_ERRORS = (errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE)


class Infeasible(Exception):
    """The error of a model beyond a limit; ``measured`` is what it has, by the limit's name."""

    def __init__(self, said: str, measured: dict[str, float]) -> None:
        super().__init__(said)
        self.measured = measured


class InvalidModel(Exception):
    """The error of a build function that cannot make a model of these parameters."""


def run_trial(
    job: TrialJob, dataset: Dataset, supervisor: Supervised
) -> TrialFinished | TrialFailed:
    """Run ``job`` on ``dataset``, from its last checkpoint if there is one.

    ``supervisor`` is called after every epoch. Any exception fails the trial, not the worker.
    """
    import keras

    try:
        return _run(job, dataset, supervisor)
    except Diverged as error:
        return TrialFailed(trial=job.trial, reason=FailureReason.DIVERGED, detail=str(error))
    except InvalidModel as error:
        return TrialFailed(trial=job.trial, reason=FailureReason.INVALID, detail=str(error))
    except Infeasible as error:
        return TrialFailed(
            trial=job.trial,
            reason=FailureReason.INFEASIBLE,
            detail=str(error),
            measured=error.measured,
        )
    except MemoryError as error:
        return TrialFailed(trial=job.trial, reason=FailureReason.OUT_OF_MEMORY, detail=str(error))
    except Exception as error:
        with suppress(OSError):  # of the same full disk
            traceback.print_exc()  # into the worker's log
        reason, detail = _reason(error), f"{type(error).__name__}: {error}"[:DETAIL_LENGTH]
        if reason in (FailureReason.DISK_FULL, FailureReason.DISK_ERROR):
            with suppress(OSError):
                detail += f" in {job.folder}, {shutil.disk_usage(job.folder).free:,} bytes free"
        return TrialFailed(trial=job.trial, reason=reason, detail=detail)
    finally:
        keras.utils.clear_session()  # or every model of this process stays in memory


def _reason(error: Exception) -> FailureReason:
    if is_disk_full(error):
        return FailureReason.DISK_FULL
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return FailureReason.DISK_ERROR
    # TensorFlow's own out-of-memory error, which cannot be imported here.
    return (
        FailureReason.OUT_OF_MEMORY
        if type(error).__name__ == "ResourceExhaustedError"
        else FailureReason.ERROR
    )


def _run(job: TrialJob, dataset: Dataset, supervisor: Supervised) -> TrialFinished:
    import keras

    space = load_space(job.space).shaped(dataset.form.shape)
    _require_same(space, job)
    if job.left_out is not None:
        dataset = leave_out(dataset, job.left_out)
    answers, author = Answers(ask=answer_default, values=dict(job.params)), None
    if isinstance(space, AskingSpace):
        answers.ask = supervisor.ask
        author = space.open(answers)

    def build() -> keras.Model:
        keras.utils.clear_session(free_memory=False)  # layers are numbered from the first again
        keras.utils.set_random_seed(job.seed)
        return _build(space, author, job, dataset)

    form = PLAIN
    if not is_shipped(job.space):
        form = (
            ModelForm.from_dict(job.form)
            if job.form
            else _find_form(build, dataset, author, raw=author is None)
        )
        supervisor.send(TrialBuilt(trial=job.trial, form=form.to_dict()))
        if not job.epochs:
            return TrialFinished(trial=job.trial, best_epoch=0)
    history, model, whole = _train(job, dataset, supervisor, build, author, form, answers.values)
    probabilities = whole.predict(dataset.validation.images, batch_size=VALIDATION_BATCH, verbose=0)
    evaluation = evaluate(probabilities, dataset.validation.labels, dataset.form.class_names)

    folder = Path(job.folder)
    if job.left_out is None:  # figures are drawn of the validation part
        save_predictions(folder / PREDICTIONS, probabilities, history.epochs)
    environment = _environment(history.precision)
    record = {
        **_record(job, space, dataset, environment),
        "params": answers.values,
        "form": form.to_dict(),
    }
    _write_records(folder / ARTIFACTS, record, model, evaluation)
    if job.keep_predictions:
        kept = folder / ARTIFACTS / KEPT_PREDICTIONS
        kept.write_bytes(pack_predictions(probabilities))
    scalars = {
        **_scalars(history, evaluation, model),
        "latency_ms": measure_latency(whole, dataset.validation.images[:1]),
    }
    save_model(whole, folder / MODEL_FILE)
    return TrialFinished(
        trial=job.trial,
        best_epoch=history.best.epoch,
        scalars=scalars,
        environment=environment,
        predicted="" if job.left_out is None else pack_classes(probabilities.argmax(axis=1)),
    )


def _train(
    job: TrialJob,
    dataset: Dataset,
    report: Report,
    build: Callable[[], keras.Model],
    author: Author | None,
    form: ModelForm,
    params: Params,
) -> tuple[History, keras.Model, keras.Model]:
    """Train; return the history, the model, and it with pixels in and probabilities out."""
    model = build()
    if not form.is_plain:  # written without an Input, it has no weights yet
        model(form.feed(dataset.train.images[:1]))
    whole = around(model, form, dataset.form.shape)
    if job.limits:
        _require_within(job.limits, model, whole, dataset, Path(job.folder))
    given: dict[str, Any] = {
        "training": dataset.train,
        "validation": dataset.validation,
        "classes": dataset.classes,
        "plan": _plan(job, params, author),
        "form": form,
        "report": report,
    }
    if author is not None and author.fit is not None:
        from mnist_lab.training.written import train_as_written

        return train_as_written(author.fit, model, whole, **given), model, whole
    folder = Path(job.folder) / CHECKPOINTS
    checkpoints = Checkpoints(folder, job.identity) if job.checkpoints else None
    return train(model, **given, checkpoints=checkpoints), model, whole


def _require_within(
    limits: Mapping[str, float],
    model: keras.Model,
    whole: keras.Model,
    dataset: Dataset,
    folder: Path,
) -> None:
    """Raise ``Infeasible`` for a model beyond a limit, before an epoch is spent on it."""
    measured = {"parameters": float(model.count_params())}
    if "latency" in limits:
        measured["latency"] = measure_latency(whole, dataset.validation.images[:1])
    if "file_size" in limits:  # weights take as many bytes after the training
        save_model(whole, folder / MODEL_FILE)
        measured["file_size"] = float((folder / MODEL_FILE).stat().st_size)
    beyond = {name: measured[name] for name, most in limits.items() if measured[name] > most}
    if beyond:
        said = [
            f"{name} {value:,.6g}, at most {limits[name]:,.6g}" for name, value in beyond.items()
        ]
        raise Infeasible("; ".join(said), beyond)


def _plan(job: TrialJob, params: Params, author: Author | None) -> TrainingPlan:
    # An author's parameter may have such a name by chance; only ``batch_size`` is taken as meant.
    size = params.get("batch_size") or (KERAS_BATCH_SIZE if author else DEFAULT_BATCH_SIZE)
    declared = {} if author else params
    return TrainingPlan(
        epochs=job.epochs,
        batch_size=int(size),
        seed=job.seed,
        one_cycle=declared.get("schedule") == "one_cycle",
        shift=int(declared.get("shift") or 0),
        flip=bool(declared.get("flip")),
        objective=job.objective,
        balanced=job.class_weights == "balanced",
        keeps_last=job.left_out is not None,
    )


def _require_same(space: SearchSpace, job: TrialJob) -> None:
    changed = job.space_sources and space.sources != job.space_sources
    if changed or space.digest != job.space_digest:
        raise InvalidModel(f"{job.space} has changed since the sweep began")


def _find_form(
    build: Callable[[], keras.Model], dataset: Dataset, author: Author | None, *, raw: bool
) -> ModelForm:
    try:
        fit = author.fit if author is not None else None
        return find_form(build, dataset.train, dataset.classes, raw=raw, fit=fit)
    except ConfigurationError as error:
        raise InvalidModel(str(error)) from error


def _build(
    space: SearchSpace, author: Author | None, job: TrialJob, dataset: Dataset
) -> keras.Model:
    broken = space.broken_constraint(job.params)  # a file's constraints are code: known here only
    if broken:
        raise InvalidModel(f"not allowed: {broken}")
    try:
        if author is not None:
            return require_model(author.build(dataset.form.shape, dataset.classes))
        return require_model(space.build(job.params, dataset.form.shape, dataset.classes))
    except OSError:
        raise
    except Exception as error:  # whatever the author's code raises at this point
        if type(error).__name__ == "ResourceExhaustedError":
            raise
        raise InvalidModel(first_line(error)) from error


def _scalars(history: History, evaluation: Evaluation, model: keras.Model) -> dict[str, float]:
    return {
        **history.scalars(),
        "parameters": float(model.count_params()),
        **evaluation.scalars("val"),
    }


def _record(
    job: TrialJob, space: SearchSpace, dataset: Dataset, environment: dict[str, str]
) -> dict[str, Any]:
    """Return the facts of the trial, as JSON-able data."""
    record = asdict(job)
    del record["folder"], record["checkpoints"], record["keep_predictions"], record["limits"]
    record["space_declaration"] = space.to_dict()
    record["dataset"] = {
        "name": dataset.name,
        "train": dataset.train.digest,
        "validation": dataset.validation.digest,
    }
    record["environment"] = environment
    return record


def _write_records(
    folder: Path, record: dict[str, Any], model: keras.Model, evaluation: Evaluation
) -> None:
    for name, document in evaluation.to_json().items():
        _write(folder / "evaluation" / f"{name}.json", json.dumps(document, indent=1))
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=88)
    _write(folder / "model" / "summary.txt", "\n".join(lines) + "\n")
    _write(folder / "config.json", json.dumps(record, indent=1, default=str))


def _environment(precision: str) -> dict[str, str]:
    """Return the facts beside job and data on which a result may depend."""
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
