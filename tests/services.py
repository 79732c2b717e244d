"""The services of a team, run natively: PostgreSQL, SeaweedFS (S3), MLflow's server."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import yaml

from mnist_lab.tracking.server import server_environment

# Debian keeps PostgreSQL's programs off the PATH.
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PG_CTL = shutil.which("pg_ctl", path=os.pathsep.join([os.environ["PATH"], *map(str, PROGRAMS)]))
_BIN = Path(sys.executable).parent
WEED = shutil.which("weed", path=os.pathsep.join([str(_BIN), os.environ["PATH"]]))
TEAM = yaml.safe_load((Path(__file__).parents[1] / "docker" / "compose.team.yaml").read_text())
START_SECONDS = 240.0
PASSWORD = "team-secret"


def free_ports(count):
    """So many free ports."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def wait_for(address, *, status=200):
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError):
            try:
                with urllib.request.urlopen(address, timeout=5) as answer:
                    found = answer.status
            except urllib.error.HTTPError as error:
                found = error.code
                error.close()
            if found == status:
                return
        assert time.monotonic() < deadline, f"{address} does not answer with {status}"
        time.sleep(0.2)


class Postgres:
    """A cluster of its own in a folder of its own; PostgreSQL refuses to run as root."""

    def __init__(self, port):
        self._root = os.geteuid() == 0
        self._user = "postgres" if self._root else getpass.getuser()
        self.folder = Path(tempfile.mkdtemp(prefix="mnist-lab-pg-"))
        if self._root:
            shutil.chown(self.folder, self._user)
        self._options = f"-h 127.0.0.1 -p {port} -k {self.folder} -c fsync=off"
        self.address = f"postgresql+psycopg://{self._user}@127.0.0.1:{port}"
        self.url = f"{self.address}/postgres"
        self._control("init", "-o", "--auth=trust --no-sync")

    def start(self):
        log = str(self.folder / "log")
        self._control("start", "-w", "-l", log, "-o", self._options)

    def stop(self):
        self._control("stop", "-w", "-m", "fast")

    def create(self, *databases):
        import sqlalchemy

        engine = sqlalchemy.create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name in databases:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()

    def close(self):
        self.stop()
        shutil.rmtree(self.folder)

    def _control(self, *words):
        command = [PG_CTL, "-D", str(self.folder / "data"), *words]
        become = ["runuser", "-u", self._user, "--"] if self._root else []
        subprocess.run([*become, *command], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)


class Process:
    """A service in a session of its own."""

    def __init__(self, words, environment=None):
        self._words, self._environment = words, environment
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            self._words,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self.process.wait()


class Seaweed(Process):
    """The team's S3 server, by its own command of the compose file."""

    def __init__(self, folder):
        master, volume, filer, s3, *grpc = free_ports(8)
        self.url = f"http://127.0.0.1:{s3}"
        (folder / "data").mkdir(parents=True)
        config = folder / "s3.json"
        config.write_text(TEAM["configs"]["keys"]["content"].replace("${LAB_PASSWORD}", PASSWORD))
        given = {
            "-dir=/data": f"-dir={folder / 'data'}",
            "-ip=seaweedfs": "-ip=127.0.0.1",
            "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
            "-s3.port=8333": f"-s3.port={s3}",
            "-s3.config=/etc/seaweedfs/s3.json": f"-s3.config={config}",
            "-master.volumeSizeLimitMB=256": "-master.volumeSizeLimitMB=64",
        }
        words = [given.get(each, each) for each in TEAM["services"]["seaweedfs"]["command"]]
        ports = {"master.port": master, "volume.port": volume, "filer.port": filer}
        for name, port in zip(("master", "volume", "filer", "s3"), grpc, strict=True):
            ports[f"{name}.port.grpc"] = port
        super().__init__([WEED, *words, *(f"-{name}={port}" for name, port in ports.items())])

    def start(self):
        super().start()
        wait_for(self.url, status=403)


class Mlflow(Process):
    """The team's MLflow server, by its own command of the compose file."""

    def __init__(self, database, s3):
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        service = TEAM["services"]["mlflow"]
        program, *rest = service["entrypoint"]
        assert program == "python"
        words = []
        for word in service["command"]:
            name, _, value = word.partition("=")
            value = {"--host": "127.0.0.1", "--port": str(port), "--workers": "1",
                     "--backend-store-uri": database,
                     "--allowed-hosts": f"127.0.0.1:{port}"}.get(name, value)  # fmt: skip
            words.append(f"{name}={value}" if value else name)
        environment = {
            **server_environment(),
            **{
                k: v.replace("${LAB_PASSWORD}", PASSWORD) for k, v in service["environment"].items()
            },
            "MLFLOW_S3_ENDPOINT_URL": s3,
        }
        super().__init__([sys.executable, *rest, *words], environment)

    def start(self):
        super().start()
        wait_for(f"{self.url}/health")
