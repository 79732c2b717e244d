"""The number of workers, and the device and threads of each."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from mnist_lab.errors import UsageError
from mnist_lab.training import Runtime

# CUDA's context and cuDNN's work space take memory beside TensorFlow's own, so a shared GPU is not
# divided to the last byte.
GPU_MEMORY_SHARE = 0.9

# More workers than this at once leave TPE guessing without results, and take 1 to 3 GB each.
MAX_CPU_WORKERS = 8

# Where a container sees the limits of its own control group (version 2).
CGROUP = Path("/sys/fs/cgroup")

GIBIBYTE = 2**30
# The share of the machine's memory for all workers; the rest is the supervisor's and the user's.
MEMORY_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU: ``index`` as CUDA counts it, ``memory_mb`` in MiB."""

    index: str
    memory_mb: int


def plan_workers(
    *,
    workers: int | None = None,
    device: str | None = None,
    workers_per_gpu: int = 1,
    at_most: int | None = None,
    cores: int | None = None,
    gpus: tuple[Gpu, ...] | None = None,
) -> tuple[Runtime, ...]:
    """Share the machine among workers.

    Args:
        workers: how many; by default one a core on the CPU, eight at most (measured: two of one thread
            train a CNN's epoch in 7.2 s each on two cores, one worker of two threads in 4.4 s),
            ``workers_per_gpu`` a GPU otherwise.
        device: ``cpu``, ``gpu`` (all of them), ``gpu:0,1``, or None for GPUs where there are any.
        workers_per_gpu: how many share one GPU, each with a memory limit.
        at_most: how many could have something to do.
        cores: usable cores; asked of the machine by default.
        gpus: the GPUs there are; asked of the machine by default.

    Raises:
        UsageError: a device that is not there, or less than one worker.
    """
    if (workers is not None and workers < 1) or workers_per_gpu < 1:
        raise UsageError("At least one worker is needed.")
    cores = cores or usable_cores()
    chosen = _choose_gpus(device, find_gpus() if gpus is None and device != "cpu" else gpus or ())
    count = workers or (len(chosen) * workers_per_gpu if chosen else min(cores, MAX_CPU_WORKERS))
    count = min(count, max(1, at_most)) if at_most is not None else count
    threads = max(1, cores // count)
    if not chosen:
        return tuple(Runtime(threads=threads) for _ in range(count))
    sharing = -(-count // len(chosen))
    return tuple(
        Runtime(
            threads=threads,
            gpu=gpu.index,
            gpu_memory_mb=int(gpu.memory_mb * GPU_MEMORY_SHARE / sharing) if sharing > 1 else None,
        )
        for gpu in (chosen[worker % len(chosen)] for worker in range(count))
    )


def usable_cores() -> int:
    """Count the cores that this process may run on, within a container's limits.

    A container may name cores, or limit their time (cgroup v2's ``cpu.max``, "200000 100000" for two).
    """
    named = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota, _, period = _read_limit("cpu.max").partition(" ")
    return min(named, max(1, int(quota) // int(period))) if quota.isdigit() else named


def usable_memory() -> int:
    """Return the bytes that this process may hold, within a container's limit."""
    total = int(psutil.virtual_memory().total)
    limit = _read_limit("memory.max")
    return min(total, int(limit)) if limit.isdigit() else total


def _read_limit(name: str) -> str:
    """A limit of this process's control group, "max" for none; empty where there are no groups."""
    file = CGROUP / name
    return file.read_text().strip() if file.exists() else ""


def memory_cap(workers: int, *, limit_mb: int | None = None, total: int | None = None) -> int:
    """Return the bytes that each worker may hold: ``limit_mb`` MiB, or its share of the machine."""
    if limit_mb is not None:
        return limit_mb * 2**20
    return int((total or usable_memory()) * MEMORY_SHARE / workers)


def resident_bytes(pid: int | None) -> int:
    """Return the bytes of memory that a process holds; 0 for one that is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def find_gpus() -> tuple[Gpu, ...]:
    """Find NVIDIA GPUs, as ``nvidia-smi`` lists them and ``CUDA_VISIBLE_DEVICES`` allows.

    TensorFlow is not asked, because the supervisor does not import it.
    """
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except subprocess.SubprocessError:
        return ()  # a driver that does not answer offers no GPU
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    allowed = None if visible is None else [name.strip() for name in visible.split(",")]
    found = []
    for line in answer.stdout.strip().splitlines():
        index, uuid, memory = (field.strip() for field in line.split(","))
        names_it = [
            name for name in allowed or () if name == index or (name and uuid.startswith(name))
        ]
        if memory.isdigit() and (allowed is None or names_it):
            found.append(Gpu(index=index, memory_mb=int(memory)))
    return tuple(found)


def _choose_gpus(device: str | None, found: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    if device is None:
        return found
    kind, _, wanted = device.partition(":")
    if kind == "cpu" and not wanted:
        return ()
    if kind != "gpu":
        raise UsageError(f"Unknown device {device!r}: cpu, gpu, or gpu:0,1.")
    present = [gpu.index for gpu in found]
    missing = sorted(set(wanted.split(",")) - set(present)) if wanted else []
    if not found or missing:
        raise UsageError(
            f"Device {device!r} is not here: found {', '.join(present) or 'no GPU'}.",
            next_step="Type the same command with --device cpu, or check nvidia-smi.",
        )
    return tuple(gpu for gpu in found if not wanted or gpu.index in wanted.split(","))
