"""A Ray cluster of this machine's own processes: a head on which nothing runs, and nodes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

START_SECONDS = 180.0
START_TRIES = 3  # ``ray start`` gives a raylet 30 s, which is little on a busy machine
STORE_BYTES = "150000000"
TESTS = Path(__file__).parent


def free_ports(count):
    """The first of so many ports in a row that are free, below those that Linux gives away.

    Each of pytest's processes looks in a part of its own: a port is taken only seconds later.
    """
    part = 2500 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 3)
    for first in range(23000 + part, 25500 + part, 50):
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", port))
            return first
    raise RuntimeError("no ports are free")


class Node:
    """The processes of one ``ray start --block``, in a session of their own."""

    def __init__(self, words, environment, log):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )
        self.session = self.process.pid
        # Ends the node when this process dies, however: its pipe closes then.
        script = f"cat > /dev/null; kill -9 $(ps -o pid= -s {self.session})"
        self.reaper = subprocess.Popen(
            ["sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def is_up(self):
        return "runtime started" in self.log.read_text()

    def pids(self):
        """Workers are in the node's session, not in its process group."""
        found = []
        for each in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(each.pid) == self.session:
                    found.append(each.pid)
        return found

    def signal(self, number):
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self):
        """End the node as a pulled plug does."""
        while self.pids():
            self.signal(signal.SIGKILL)
            self.signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
        self.reaper.stdin.close()
        self.reaper.wait()

    def freeze(self):
        self.signal(signal.SIGSTOP)


class Cluster:
    """A head without CPUs, and ``nodes`` by name. Never ``ray stop``: it ends everybody's."""

    def __init__(self, **variables):
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
        self.port = free_ports(3)
        self.client_port = self.port + 1
        self.address = f"127.0.0.1:{self.port}"
        self.client_address = f"ray://127.0.0.1:{self.client_port}"
        self.environment = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "KERAS_BACKEND": "none",
            # Slots import the fakes.
            "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path[1:]]),
            **variables,
        }
        self.nodes: dict[str, Node] = {}
        self._lowest = (
            32768  # worker ports are given by hand: clients' ports must not be among them
        )
        self.head = self._start("head", [
            "--head", "--port", str(self.port),
            "--ray-client-server-port", str(self.client_port),
            "--include-dashboard", "false", "--num-cpus", "0",
            "--temp-dir", str(self.folder / "r"),
        ])  # fmt: skip

    def add(self, name, *, cpus=1, gpus=0):
        words = ["--address", self.address, "--num-cpus", str(cpus), "--num-gpus", str(gpus)]
        self.nodes[name] = self._start(name, words)
        return self.nodes[name]

    def close(self):
        for node in [*self.nodes.values(), self.head]:
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, name, words):
        for attempt in range(START_TRIES):
            first = free_ports(60) + 5
            node = Node(
                [*words, "--object-store-memory", STORE_BYTES,
                 "--min-worker-port", str(first), "--max-worker-port", str(first + 50)],
                self.environment,
                self.folder / f"{name}-{attempt}.log",
            )  # fmt: skip
            deadline = time.monotonic() + START_SECONDS
            while node.process.poll() is None and time.monotonic() < deadline:
                if node.is_up():
                    return node
                time.sleep(0.1)
            node.kill()
        raise RuntimeError(f"{name} did not start: {node.log.read_text()[-2000:]}")


def later(seconds, do):
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer
