"""What a Ray cluster has: its nodes, their versions, devices and memory, and what would run where."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from mnist_lab.errors import MnistLabError, ServiceError, first_line
from mnist_lab.execution.forkserver import end_process, start_process
from mnist_lab.execution.ray_cluster import (
    VARIABLES,
    connect_to_cluster,
    disconnect,
    read_address,
    require_alike,
    require_ray,
)
from mnist_lab.execution.ray_messages import Refused
from mnist_lab.execution.resources import find_gpus
from mnist_lab.execution.slot import SlotFacts, find_versions
from mnist_lab.execution.worker import end_with_parent, print_to

SURVEY_SECONDS = 180.0
NODE_SECONDS = 60.0  # all nodes are asked at once
GRACE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """One node of a cluster.

    Attributes:
        cpus, gpus: what the node gives to Ray; ``devices`` are the GPUs that it has, with MiB.
        memory: bytes that are free now.
        slots: how many trials would run here by default.
        problem: why none can, and what to type there; empty if nothing is wrong.
    """

    host: str
    address: str
    cpus: float
    gpus: float
    devices: tuple[str, ...] = ()
    memory: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    slots: int = 0
    problem: str = ""


def survey_cluster(address: str, log: Path) -> list[NodeFacts]:
    """Ask each node of the cluster at ``address`` what it has.

    Raises:
        ServiceError: there is no cluster, or it does not answer.
        MissingExtraError: Ray is not installed.
    """
    require_ray()
    ours, theirs = Pipe()
    # In a process of its own: Ray takes over signals, and ends a process whose cluster is lost.
    process = start_process(
        _survey, read_address(address), log, theirs, name="mnist-lab ray survey", fresh=True
    )
    theirs.close()
    try:
        found = ours.recv() if ours.poll(SURVEY_SECONDS) else None
    except EOFError:
        found = None
    finally:
        ours.close()
        end_process(process, grace=GRACE_SECONDS)
    if isinstance(found, Refused):
        raise found.to_error()
    if found is None:
        raise ServiceError(f"The Ray cluster does not answer; see {log}")
    nodes: list[NodeFacts] = found
    return nodes


def _survey(address: str, log: Path, connection: Connection) -> None:
    end_with_parent()
    print_to(log)
    os.environ.update(VARIABLES)
    try:
        connect_to_cluster(address)
        connection.send(_ask_nodes())
    except MnistLabError as error:
        with suppress(OSError):
            connection.send(Refused.of(error))
    finally:
        disconnect()


def _ask_nodes() -> list[NodeFacts]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [each for each in ray.nodes() if each["Alive"]]
    look = ray.remote(look_around)
    asked = [
        look.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(each["NodeID"], soft=False),
        ).remote()
        for each in alive
    ]
    ready = ray.wait(asked, num_returns=len(asked), timeout=NODE_SECONDS)[0] if asked else []
    nodes = [
        _gather(each, answer, is_there=answer in ready)
        for each, answer in zip(alive, asked, strict=True)
    ]
    by_gpus = any(node.gpus for node in nodes)
    return [
        replace(node, slots=0 if node.problem else int(node.gpus if by_gpus else node.cpus))
        for node in nodes
    ]


def _gather(node: Mapping[str, Any], answer: Any, *, is_there: bool) -> NodeFacts:
    import ray

    resources = node["Resources"]
    facts = NodeFacts(
        host=str(node["NodeManagerHostname"]),
        address=str(node["NodeManagerAddress"]),
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
    )
    if not is_there:
        return replace(facts, problem=f"It does not answer within {NODE_SECONDS:.0f} s.")
    try:
        told: dict[str, Any] = ray.get(answer)
        facts = replace(facts, **told)
        require_alike(SlotFacts(host=facts.host, pid=0, device="", versions=facts.versions))
    except MnistLabError as error:
        return replace(facts, problem=f"{error.problem} {error.next_step}")
    except Exception as error:  # mnist-lab is not installed there, or the node is going
        return replace(facts, problem=f"It does not answer: {first_line(error)}")
    return facts


def look_around() -> dict[str, Any]:
    """Return what the machine of this process has; runs on a node."""
    return {
        "host": platform.node(),
        "devices": tuple(f"{gpu.index}: {gpu.memory_mb:,} MiB" for gpu in find_gpus()),
        "memory": int(psutil.virtual_memory().available),
        "versions": find_versions(),
    }
