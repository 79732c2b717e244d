"""The check of a space before its first trial: one build and one batch, in the first worker."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from optuna.distributions import json_to_distribution

from mnist_lab.config import SweepConfig
from mnist_lab.errors import (
    ConfigurationError,
    DiskFullError,
    InterruptedSweep,
    InvalidParamsError,
    MnistLabError,
    ServiceError,
    UnknownNameError,
)
from mnist_lab.execution import (
    Answer,
    Decision,
    Executor,
    FailureReason,
    ParameterAsked,
    TrialFailed,
    TrialFinished,
    TrialJob,
)
from mnist_lab.search import REMEDIES, START_SECONDS, Remedy
from mnist_lab.spaces import BUILDS, ParamValue, Question, SearchSpace, choose, run_description
from mnist_lab.sweep.signals import StopRequest

TICK_SECONDS = 0.5
MOST_SECONDS = 300.0  # for one build and one batch, where no --trial-timeout says otherwise
NO_TRIAL = -1


def check_space_first(
    executor: Executor, config: SweepConfig, space: SearchSpace, work: Path, stop: StopRequest
) -> None:
    """Build the model of the space's defaults (and ``--set``), and try one batch.

    A mistake of every trial is reported once, and no trial is spent on it.

    Raises:
        ConfigurationError: the model cannot be built or trained, and why.
        UsageError: ``--set`` names no parameter, or has a value that is none of its own.
    """
    executor.submit(_job(config, space, work))
    asked: list[str] = []
    deadline = time.monotonic() + START_SECONDS + (config.trial_timeout or MOST_SECONDS)
    while True:
        if stop.requested:
            raise InterruptedSweep("Interrupted.", exit_code=stop.exit_code)
        if time.monotonic() > deadline:
            executor.kill(
                TrialFailed(trial=NO_TRIAL, reason=FailureReason.TIMEOUT, detail="took too long")
            )
            deadline = math.inf
        match executor.next_event(TICK_SECONDS):
            case ParameterAsked(question=question):
                asked.append(question.name)
                try:
                    value = _answer(question, config)
                except InvalidParamsError:
                    executor.decide(NO_TRIAL, Decision.PAUSE)
                    raise
                executor.decide(NO_TRIAL, Answer(value=value))
            case TrialFailed() as failed:
                raise _refusal(space, failed)
            case TrialFinished():
                break
    _require_known({*config.set} - set(asked) | {*config.grid}, space, config)


def _job(config: SweepConfig, space: SearchSpace, work: Path) -> TrialJob:
    return TrialJob(
        trial=NO_TRIAL,
        study="",
        space=space.reference,
        space_digest=space.digest,
        space_sources=space.sources,
        params={} if space.asks else space.point(config.set),
        epochs=0,
        seed=config.seed,
        folder=str(work),
        checkpoints=False,
        objective=config.objective,
    )


def _answer(question: Question, config: SweepConfig) -> ParamValue:
    if question.name not in config.set:
        return question.default
    return choose(question, config.set[question.name], "--set")


def _refusal(space: SearchSpace, failed: TrialFailed) -> MnistLabError:
    nothing = "Nothing was trained."
    if REMEDIES[failed.reason] is Remedy.STOP:
        return DiskFullError(
            f"{failed.detail}.", safe=nothing, next_step="Make room, type it again."
        )
    if failed.reason == FailureReason.NODE_LOST:
        return ServiceError(
            f"The machine that tried {space.reference} was lost: {failed.detail}",
            safe=nothing,
            next_step="Type the same command again.",
        )
    said = (
        failed.detail
        if failed.reason == FailureReason.INVALID
        else f"{failed.reason}: {failed.detail}"
    )
    return ConfigurationError(
        f"{space.reference}: {said}",
        safe=nothing,
        next_step=f"Correct the file, and look again: mnist-lab spaces {space.reference} --check",
    )


def _require_known(names: set[str], space: SearchSpace, config: SweepConfig) -> None:
    """Raise ``UnknownNameError`` for a name that many builds never ask for."""
    if not space.asks or not names:
        return
    found = run_description(space.reference, builds=BUILDS)["survey"]["parameters"]
    known = [each["name"] for each in found]
    ranges = {each["name"]: json.dumps(each["distribution"]) for each in found}
    for name in sorted(names):
        if name in known:
            for value in config.grid.get(name, ()):
                asked = Question(
                    name=name, distribution=json_to_distribution(ranges[name]), default=value
                )
                choose(asked, value, "--grid")
        else:
            raise UnknownNameError(
                "parameter", name, known, next_step=f"See: mnist-lab spaces {space.reference}"
            )
