"""One look at somebody's space before its first trial: one build and one batch, in the first worker."""

from __future__ import annotations

from pathlib import Path

from mnist_lab.errors import (
    ConfigurationError,
    InterruptedSweep,
    InvalidParamsError,
    UnknownNameError,
)
from mnist_lab.execution import (
    Answer,
    Decision,
    Executor,
    ParameterAsked,
    TrialFailed,
    TrialFinished,
    TrialJob,
)
from mnist_lab.spaces import SearchSpace
from mnist_lab.spaces.asking import choose
from mnist_lab.spaces.registry import run_description
from mnist_lab.spaces.survey import BUILDS
from mnist_lab.sweep.config import SweepConfig
from mnist_lab.sweep.signals import StopRequest

TICK_SECONDS = 0.5
NO_TRIAL = -1


def look_at_space(
    executor: Executor, config: SweepConfig, space: SearchSpace, work: Path, stop: StopRequest
) -> None:
    """Build the model of the space's defaults (and ``--set``), and try one batch.

    What is wrong with every trial is said once, and no trial is spent on it.

    Raises:
        ConfigurationError: the model cannot be built or trained, and why.
        UsageError: ``--set`` names no parameter, or has a value that is none of its own.
    """
    params = {} if space.asks else space.point(config.set)
    executor.submit(
        TrialJob(
            trial=NO_TRIAL,
            study="",
            space=space.reference,
            space_digest=space.digest,
            space_sources=space.sources,
            params=params,
            epochs=0,
            seed=config.seed,
            folder=str(work),
            checkpoints=False,
        )
    )
    asked: list[str] = []
    while True:
        if stop.requested:
            raise InterruptedSweep("Interrupted.", exit_code=stop.exit_code)
        match executor.next_event(TICK_SECONDS):
            case ParameterAsked(question=question):
                asked.append(question.name)
                value = question.default
                if question.name in config.set:
                    try:
                        value = choose(question, config.set[question.name], "--set")
                    except InvalidParamsError:
                        executor.decide(NO_TRIAL, Decision.PAUSE)
                        raise
                executor.decide(NO_TRIAL, Answer(value=value))
            case TrialFailed(detail=detail):
                raise ConfigurationError(
                    f"{space.reference}: {detail}", safe="Nothing was trained."
                )
            case TrialFinished():
                break
    _require_known({*config.set, *config.grid} - set(asked), space)


def _require_known(names: set[str], space: SearchSpace) -> None:
    """Raise ``UnknownNameError`` for a name that many builds never ask for."""
    if not space.asks or not names:
        return
    found = run_description(space.reference, builds=BUILDS)["survey"]["parameters"]
    known = [each["name"] for each in found]
    for name in sorted(names):
        if name not in known:
            raise UnknownNameError("parameter", name, known)
