"""Sweeping, confirming and promoting from Python."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mnist_lab.api.pages import Pages, write_pages
from mnist_lab.api.study import Study
from mnist_lab.api.watch import watch
from mnist_lab.config import LARGEST_ENSEMBLE, parse_config
from mnist_lab.errors import InterruptedSweep, MnistLabError, UsageError
from mnist_lab.settings import Settings
from mnist_lab.study import Design

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnist_lab.config import SweepConfig
    from mnist_lab.data import Dataset
    from mnist_lab.promotion import GatePolicy, Promotion
    from mnist_lab.study import Confirmation, Replica
    from mnist_lab.sweep import SweepResult

IMPORT_AFTER_SECONDS = 5.0  # workers import TensorFlow until then


def run_sweep(config: SweepConfig, settings: Settings) -> tuple[SweepResult, Pages]:
    """Run or resume a sweep, watched, and write its pages; also return where they are."""
    from mnist_lab.report import describe_warm_points
    from mnist_lab.study import open_study
    from mnist_lab.sweep import launch

    loaded: list[Dataset] = []  # the report is written of them
    with watch() as watcher:

        def announce(dataset: Dataset) -> None:
            watcher.announce(dataset.facts.sentence)
            loaded.append(dataset)
            threading.Thread(target=_import_pages, daemon=True).start()

        result = launch(
            config,
            settings,
            listener=watcher.listener,
            loaded=announce,
            progress=watcher.decoding,
        )
        if open_study(settings, result.study).warm_points == ():
            watcher.announce(describe_warm_points(()))
    if result.best is None or result.signal:
        return result, Pages()
    tracked = not result.lag.items
    dataset = loaded[-1] if loaded else None
    return result, write_pages(result.study, settings, tracked=tracked, dataset=dataset)


def _import_pages() -> None:
    """Import what pages are made with while trainings go on: half a second at the end of a sweep."""
    time.sleep(IMPORT_AFTER_SECONDS)
    with suppress(ImportError):
        import scipy.stats  # noqa: F401

        import mnist_lab.report.page  # noqa: F401


def sweep_space(space: object, settings: Settings, **options: Any) -> Study:
    """Run or resume a sweep; see ``mnist_lab.sweep``."""
    config = parse_config({"space": _reference(space), **options})
    result, pages = run_sweep(config, settings)
    _say_why(result, pages)
    return Study(result.study, settings)


def confirm_study(
    name: str, settings: Settings, design: Design, **options: Any
) -> tuple[SweepResult | None, Confirmation | None, Pages]:
    """Train the best trials of a study again, watched, and write its pages.

    The result is None where nothing was left to train.
    """
    from mnist_lab.sweep import confirm

    with watch() as watcher:
        result, confirmation = confirm(settings, name, design, listener=watcher.listener, **options)
    if result is None or confirmation is None or result.signal:
        return result, confirmation, Pages()
    return result, confirmation, write_pages(name, settings, tracked=not result.lag.items)


def promote_study(
    name: str,
    settings: Settings,
    *,
    design: Design,
    policy: GatePolicy | None = None,
    members: int = 1,
    force: bool = False,
    dataset: str | None = None,
    **options: Any,
) -> tuple[Promotion, Pages]:
    """Put the choice of a confirmed study before its gate, its trainings watched; write its pages.

    With ``members`` an ensemble of so many trainings challenges.
    ``options`` are those of a sweep: workers, device, executor.

    Raises:
        InterruptedSweep: a training was interrupted; called again, it goes on there.
        MnistLabError: as ``mnist_lab.promotion.promote``; or MLflow could not take what was trained.
    """
    from mnist_lab.promotion import GatePolicy, promote
    from mnist_lab.tracking.store import open_client

    def train(study: str, replicas: Sequence[Replica], source: str) -> None:
        _train(study, replicas, settings, **options, dataset=source)

    promotion = promote(
        open_client(settings),
        name,
        settings,
        design=design,
        policy=policy or GatePolicy(),
        train=train,
        members=members,
        force=force,
        dataset=dataset,
    )
    return promotion, write_pages(name, settings)


def _train(study: str, replicas: Sequence[Replica], settings: Settings, **options: Any) -> None:
    """Train replicas; raise an error unless all have finished and MLflow has them."""
    from mnist_lab.sweep import train_replicas

    with watch() as watcher:
        if replicas:  # else only MLflow lacks something
            watcher.announce(f"{len(replicas)} trainings of trial {replicas[0].of} of {study}.")
        result = train_replicas(settings, study, replicas, listener=watcher.listener, **options)
    if result.signal:
        raise InterruptedSweep("Interrupted.", exit_code=result.signal)
    if result.stopped:
        raise MnistLabError(
            f"The trainings of {study} stopped: {result.stopped}.",
            safe="No alias was moved, and what is trained is kept.",
            next_step="Correct the cause, and type the same command again.",
        )
    if result.lag.items:
        raise MnistLabError(
            f"MLflow lacks {result.lag.items} records of {result.study} ({result.lag.why}).",
            safe="No alias was moved, and what is trained is kept.",
            next_step="When it answers, type: mnist-lab sync, and then the same command again.",
        )


def confirm_again(study: Study, *, top: int, **options: Any) -> None:
    """Train the best trials of a study again; see ``Study.confirm``."""
    result, confirmation, pages = confirm_study(
        study.name, study.settings, Design(top=top), **options
    )
    if result is not None:
        _say_why(result, pages)
    if confirmation is None and not (result is not None and result.signal):
        raise MnistLabError(
            f"No trial of {study.name} could be trained again.",
            safe="Nothing was promoted.",
            next_step=f"See why they failed: mnist_lab.open_study('{study.name}+confirm').frame()",
        )


def promote_again(study: Study, *, ensemble: int, force: bool) -> Promotion:
    """Put the choice of a confirmed study before its gate; see ``Study.promote``."""
    from mnist_lab.study import first_replicas, read_confirmation, read_replicas

    if not 1 <= ensemble <= LARGEST_ENSEMBLE:
        raise UsageError(f"ensemble is {ensemble}; it must be 1 to {LARGEST_ENSEMBLE}.")
    if read_confirmation(study.ledger) is None:
        raise UsageError(
            f"{study.name} was not confirmed.",
            safe="Nothing was registered.",
            next_step="Call first: study.confirm()",
        )
    confirmed = first_replicas(read_replicas(study.ledger))
    design = Design(top=max(1, len(confirmed)))
    return promote_study(study.name, study.settings, design=design, members=ensemble, force=force)[
        0
    ]


def _reference(space: object) -> str:
    """Return what ``get_space`` takes: a name, or the file and name of a function or class."""
    if isinstance(space, str):
        return space
    name = getattr(space, "__name__", None) or getattr(space, "name", "?")
    module = sys.modules.get(str(getattr(space, "__module__", "")))
    file = getattr(module, "__file__", None)
    if module is None or file is None or module.__name__ == "__main__":
        raise UsageError(
            f"{name} is defined in this session, which worker processes cannot import.",
            safe="Nothing was trained.",
            next_step="Write the cell to a file (%%writefile my_space.py as its first line), and "
            f"sweep 'my_space.py:{name}'.",
        )
    return f"{file}:{name}"


def _say_why(result: SweepResult, pages: Pages) -> None:
    """Print why a sweep ended before its total: a cell ends as it does, and can be run again."""
    said = []
    if result.signal:
        done = f"{result.finished} of {result.total}"
        said.append(f"Interrupted after {done} trials. Run it again to go on.")
    elif result.stopped:
        said.append(f"Stopped: {result.stopped}.")
    if result.lag.items:
        said.append(f"MLflow lacks {result.lag.items} records ({result.lag.why}): mnist-lab sync")
    if pages.trouble:
        said.append(pages.trouble)
    sys.stdout.write("".join(f"{line}\n" for line in said))
