"""A Ray cluster: connecting to it, sharing it among slots, and why a slot of it was lost."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec

from mnist_lab.errors import ConfigurationError, MissingExtraError, ServiceError, first_line
from mnist_lab.execution.messages import FailureReason
from mnist_lab.execution.ray_messages import DriverSpec
from mnist_lab.execution.slot import ALIKE, SlotFacts, find_versions

CONNECT_SECONDS = 10.0
CONNECT_TRIES = 2  # the first that follows a killed client may fail
# Before Ray is imported: a lost client's work ends at once, because mnist-lab resumes it itself.
VARIABLES = {
    "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under ``uv run`` Ray would send the current folder, databases included, to every node.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


def require_ray() -> None:
    """Raise ``MissingExtraError`` if Ray is not installed; it is not imported."""
    if find_spec("ray") is None:
        raise MissingExtraError("The executor ray", "ray", "ray")


def read_address(name: str) -> str:
    """Return the address that an executor's ``name`` means: ``ray`` is what Ray itself would take."""
    return os.environ.get("RAY_ADDRESS", "auto") if name == "ray" else name


def connect_to_cluster(address: str) -> None:
    """Connect this process to the cluster at ``address``.

    Raises:
        ServiceError: there is none at the address.
    """
    import ray

    _require_answer(address)
    for left in reversed(range(CONNECT_TRIES)):
        try:
            ray.init(address, log_to_driver=False, logging_level="error")
            break
        except Exception as error:  # of many types, by the kind of address
            if left:
                time.sleep(2.0)
                continue
            raise _not_connected(address, error) from error
    # Ray has put its own handler in the place of what a worker process has.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _require_answer(address: str) -> None:
    """Require something to listen at the address: Ray itself would try for minutes.

    Raises:
        ServiceError: nothing does.
    """
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> ServiceError:
    where = "on this machine" if address == "auto" else f"at {address}"
    return ServiceError(
        f"There is no Ray cluster {where}: {first_line(error).rstrip('.')}.",
        safe="Nothing was trained.",
        next_step="Start one with: ray start --head, or give its address: --executor HOST:6379",
    )


def _not_connected(address: str, error: Exception) -> ServiceError:
    if address == "auto":
        return _no_cluster(address, error)
    said = " ".join(f"{error} {error.__cause__ or ''}".split())[:400]
    advice = "By its address a cluster is reached from a machine on which ray start ran."
    if address.startswith("ray://"):
        advice = "The client port is the head's, and needs the same versions of Ray and Python."
    return ServiceError(
        f"Something answers at {address}, but no Ray cluster for this process: {said}",
        safe="Nothing was trained.",
        next_step=f"{advice} From elsewhere: --executor ray://HOST:10001",
    )


def disconnect() -> None:
    """Leave the cluster; what this process runs on it ends."""
    import ray

    with suppress(Exception):
        ray.shutdown()


@dataclass(frozen=True)
class SlotPlan:
    """The GPU share and the threads of each slot, and how many there are."""

    share: float
    threads: int
    count: int


@dataclass(frozen=True)
class Node:
    """The CPUs and GPUs that a node gives to Ray."""

    cpus: float
    gpus: float


def list_nodes() -> list[Node]:
    """List the nodes that are alive."""
    import ray

    found = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    return [Node(cpus=each.get("CPU", 0.0), gpus=each.get("GPU", 0.0)) for each in found]


def plan_slots(nodes: list[Node], spec: DriverSpec) -> SlotPlan:
    """Share a cluster among slots.

    One a GPU times ``workers_per_gpu`` if there are GPUs and ``device`` is not ``cpu``, else one a CPU;
    ``workers`` if that is given; at most ``at_most``. A slot has as many threads as its node has CPUs
    for it.

    Raises:
        ConfigurationError: a device that the cluster does not have; or a cluster without nodes, of
            which the number of slots cannot be known.
    """
    gpus = sum(int(node.gpus) for node in nodes)
    if spec.device not in (None, "cpu", "gpu"):
        raise ConfigurationError(
            f"The device {spec.device!r} is one machine's.",
            next_step="For a cluster: --device cpu or --device gpu",
        )
    if spec.device == "gpu" and not gpus and spec.workers is None:
        raise ConfigurationError(
            "The Ray cluster has no GPU now.",
            next_step="Add --device cpu; or --workers N, to wait for nodes with GPUs.",
        )
    uses_gpus = spec.device == "gpu" or (spec.device is None and gpus > 0)
    share = 1 / spec.workers_per_gpu if uses_gpus else 0.0
    found = count_slots(nodes, spec, share)
    if spec.workers is None and not found:
        raise ConfigurationError(
            "The Ray cluster has no CPU now, so the number of workers cannot be known.",
            next_step="Say it: --workers N",
        )
    count = max(1, min(spec.workers or found, spec.at_most))
    _require_room(nodes, spec)
    hosts = [node for node in nodes if (node.gpus if uses_gpus else node.cpus)]
    on_each = -(-count // len(hosts)) if hosts else 1
    share_of_node = max(1, min((int(node.cpus) for node in hosts), default=1) // on_each)
    return SlotPlan(share=share, threads=spec.threads or share_of_node, count=count)


def count_slots(nodes: list[Node], spec: DriverSpec, share: float) -> int:
    """Count the slots of a ``share`` of a GPU, or of one CPU, that nodes have; 0 if there are none."""
    if share:
        found = sum(int(node.gpus) for node in nodes) * spec.workers_per_gpu
    else:
        found = sum(int(node.cpus) for node in nodes)
    return min(found, spec.at_most)


def _require_room(nodes: list[Node], spec: DriverSpec) -> None:
    """Raise ``ConfigurationError`` if no node has as many CPUs as threads are asked for."""
    most = max((int(node.cpus) for node in nodes), default=0)
    if spec.threads is not None and spec.threads > most:
        raise ConfigurationError(
            f"No node of the cluster has {spec.threads} CPUs, one for each thread of the record.",
            next_step="Type the same command without --executor, or add such a node.",
        )


def require_alike(facts: SlotFacts) -> None:
    """Require a slot's versions to be those of this machine.

    Raises:
        ConfigurationError: they are not, with the node and what to type there.
    """
    here = find_versions()
    other = {name: v for name, v in facts.versions.items() if v != here.get(name)}
    if not other:
        return
    said = ", ".join(f"{name} {v} (here {here.get(name)})" for name, v in sorted(other.items()))
    wanted = [f"'{name}=={here[name]}'" for name in other if name in ALIKE]
    own = {"python": f"use Python {here['python']}", "mnist-lab": "install the same mnist-lab"}
    steps = [own[name] for name in own if name in other]
    install = ", ".join([*steps, *([f"pip install {' '.join(wanted)}"] if wanted else [])])
    raise ConfigurationError(
        f"The node {facts.host} has other versions: {said}.",
        safe="Nothing was trained there.",
        next_step=f"On {facts.host}: {install}",
    )


# What Ray says in words alone.
_MEMORY_WORDS = ("memory monitor", "OutOfMemory", "out of memory")
_NODE_WORDS = ("node has died", "node died", "preempted", "heartbeats", "Socket closed")
_NODE_ERRORS = (
    "ActorUnavailableError",
    "NodeDiedError",
    "ObjectLostError",
    "OwnerDiedError",
    "ObjectFetchTimedOutError",
)


def explain_loss(error: BaseException, place: str) -> tuple[FailureReason, str]:
    """Return the reason why an actor was lost, and a sentence: Ray's text is 600 letters."""
    name, text = type(error).__name__, str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error: " in line), lines[0] if lines else "")
    detail = f"{name} on {place}: {said.split('. ')[0][:200]}"
    if any(word in text or word in name for word in _MEMORY_WORDS):
        return FailureReason.OUT_OF_MEMORY, detail
    if name in _NODE_ERRORS or any(word in text for word in _NODE_WORDS):
        return FailureReason.NODE_LOST, detail
    return FailureReason.CRASHED, detail
