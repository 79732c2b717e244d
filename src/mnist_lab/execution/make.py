"""Executors by name: those that ship, a Ray cluster by its address, and those of other packages.

A package adds one with an entry point in the group ``mnist_lab.executors``, whose value is called with
an ``ExecutorSpec`` and returns an ``Executor``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from mnist_lab.errors import ConfigurationError, UnknownNameError
from mnist_lab.execution.executor import Executor
from mnist_lab.execution.forkserver import may_fork
from mnist_lab.execution.inline import InlineExecutor
from mnist_lab.execution.local import LocalExecutor
from mnist_lab.execution.ray import RayExecutor
from mnist_lab.execution.ray_cluster import read_address
from mnist_lab.execution.ray_messages import DriverSpec
from mnist_lab.execution.resources import memory_cap, plan_workers
from mnist_lab.execution.worker import WorkerSpec
from mnist_lab.training import Runtime

ENTRY_POINT_GROUP = "mnist_lab.executors"
_ADDRESS = re.compile(r"ray://.+|[^/\s:]+:\d+")


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec:
    """The settings of an executor.

    Attributes:
        at_most: how many jobs could run at once.
        dataset: a folder of ``data.shared``, written before ``Executor.start``.
        work: the folder for logs; jobs have folders of their own.
        trainer: ``module:function`` of the type ``RunTrial``.
        workers, device, workers_per_gpu, worker_memory: as in ``SweepConfig``.
        precision: None for the environment's.
        threads: of each worker; None for its share of the machine.
    """

    at_most: int
    dataset: Path
    work: Path
    trainer: str = WorkerSpec.trainer
    workers: int | None = None
    device: str | None = None
    workers_per_gpu: int = 1
    worker_memory: int | None = None
    precision: str | None = None
    threads: int | None = None


def make_executor(name: str, spec: ExecutorSpec) -> Executor:
    """Make the executor ``name``: local, inline, ray, a cluster's address, or another package's.

    Raises:
        UnknownNameError: there is none of that name.
        ConfigurationError, UsageError: it cannot have these settings.
        MissingExtraError: its package is not installed.
    """
    if name == "local":
        return _make_local(spec)
    if name == "inline":
        return _make_inline(spec)
    if name == "ray" or _ADDRESS.fullmatch(name):
        return _make_ray(spec, read_address(name))
    found = _find_entry(name)
    if found is None:
        known = ["local", "inline", "ray", *(each.name for each in _entries())]
        raise UnknownNameError(
            "executor",
            name,
            known,
            next_step="A cluster's address is HOST:6379 or ray://HOST:10001",
        )
    factory: Callable[[ExecutorSpec], Executor] = found.load()
    return factory(spec)


def require_executor(name: str, spec: ExecutorSpec) -> None:
    """Raise what ``make_executor`` would, without loading another package's code."""
    if _find_entry(name) is None:
        make_executor(name, spec)


def imports_by_itself(name: str, spec: ExecutorSpec) -> bool:
    """Return whether workers import their libraries while this process does something else.

    Those that are forked of the template wait for it, which imports beside this process, too.
    """
    if name == "inline":
        return False
    if name != "local":
        return True
    return not may_fork() or any(each.gpu for each in _plan(spec))


def _make_local(spec: ExecutorSpec) -> Executor:
    specs = _worker_specs(spec)
    return LocalExecutor(specs, memory_cap=memory_cap(len(specs), limit_mb=spec.worker_memory))


def _make_inline(spec: ExecutorSpec) -> Executor:
    return InlineExecutor(_worker_specs(replace(spec, workers=1))[0])


def _make_ray(spec: ExecutorSpec, address: str) -> Executor:
    if spec.worker_memory is not None:
        raise ConfigurationError(
            "On a cluster Ray's own memory monitor limits the workers.",
            next_step="Leave worker_memory out.",
        )
    return RayExecutor(
        DriverSpec(
            address=address,
            workers=spec.workers,
            device=spec.device,
            workers_per_gpu=spec.workers_per_gpu,
            at_most=spec.at_most,
            precision=spec.precision,
            threads=spec.threads,
            trainer=spec.trainer,
            dataset=spec.dataset,
            log=spec.work / "ray.log",
        )
    )


def _worker_specs(spec: ExecutorSpec) -> list[WorkerSpec]:
    return [
        WorkerSpec(
            index=index,
            runtime=runtime,
            dataset=spec.dataset,
            log=spec.work / f"worker-{index}.log",
            trainer=spec.trainer,
        )
        for index, runtime in enumerate(_plan(spec))
    ]


def _plan(spec: ExecutorSpec) -> list[Runtime]:
    planned = plan_workers(
        workers=spec.workers,
        device=spec.device,
        workers_per_gpu=spec.workers_per_gpu,
        at_most=spec.at_most,
    )
    return [
        replace(each, precision=spec.precision, threads=spec.threads or each.threads)
        for each in planned
    ]


def _entries() -> list[EntryPoint]:
    return list(entry_points(group=ENTRY_POINT_GROUP))


def _find_entry(name: str) -> EntryPoint | None:
    return next((each for each in _entries() if each.name == name), None)
