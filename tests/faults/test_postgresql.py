"""FAULTS 36: a study's database server that is restarted, or stays away. PostgreSQL, a real one."""

from __future__ import annotations

import gc
import getpass
import os
import shutil
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path

import pytest

from mnist_lab.config import SweepConfig
from mnist_lab.errors import ServiceError
from mnist_lab.settings import Settings
from mnist_lab.study import open_study, storage
from mnist_lab.sweep import launch

from .conftest import states, values_by_epoch

# Debian keeps the server's programs off the PATH.
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
FOUND = shutil.which("pg_ctl", path=os.pathsep.join([os.environ["PATH"], *map(str, PROGRAMS)]))
pytestmark = pytest.mark.skipif(FOUND is None, reason="there is no PostgreSQL here")


class Server:
    """A cluster of its own in a folder of its own; PostgreSQL refuses to run as root."""

    def __init__(self, port):
        self._root = os.geteuid() == 0
        self._user = "postgres" if self._root else getpass.getuser()
        self.folder = Path(tempfile.mkdtemp(prefix="mnist-lab-pg-"))
        if self._root:
            shutil.chown(self.folder, self._user)
        self._options = f"-h 127.0.0.1 -p {port} -k {self.folder} -c fsync=off"
        self.url = f"postgresql+psycopg://{self._user}@127.0.0.1:{port}/postgres"
        self._control("init", "-o", "--auth=trust --no-sync")

    def start(self):
        log = str(self.folder / "log")
        self._control("start", "-w", "-l", log, "-o", self._options)

    def stop(self):
        self._control("stop", "-w", "-m", "fast")

    def _control(self, *words):
        command = [FOUND, "-D", str(self.folder / "data"), *words]
        become = ["runuser", "-u", self._user, "--"] if self._root else []
        subprocess.run([*become, *command], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)


@pytest.fixture
def server(free_port):
    server = Server(free_port)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.folder)
    with warnings.catch_warnings():  # Optuna leaves its connections to the process's end
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def there(server, settings):
    """This test's settings, with the study on the server."""
    return Settings(home=settings.root, storage_override=server.url)


def run(config, settings, listener=lambda _: None):
    return launch(SweepConfig(**config), settings, trainer="fakes:run_trial", listener=listener)


def once(word, do):
    """A listener that calls ``do`` when ``word`` is in the news for the first time."""
    done = []

    def listen(progress):
        if word in str(progress.news) and not done:
            done.append(word)
            do()

    return listen


def test_a_sweep_waits_for_a_database_server_that_is_restarted(server, there, config, faults):
    restarts = threading.Timer(2.0, server.start)

    def restart():
        server.stop()
        restarts.start()

    result = run(config, there, once("trial 1 epoch 1/", restart))
    restarts.join()
    assert (result.finished, result.stopped) == (4, None)
    study = open_study(there, "s")
    assert states(study) == ["COMPLETE"] * 4
    assert [list(values_by_epoch(study, trial)) for trial in range(4)] == [[1, 2, 3]] * 4


# Its connections are collected after their server was killed: nothing can close them properly.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_a_database_server_that_stays_away_ends_the_sweep_and_loses_nothing(
    server, there, config, faults, monkeypatch
):
    monkeypatch.setattr(storage, "SERVER_PATIENCE_SECONDS", 1.0)
    with pytest.raises(ServiceError, match="storage is lost") as error:
        run(config, there, once("trial 1 epoch 1/", server.stop))
    server.start()
    assert "type the same command again" in str(error.value)
    assert states(open_study(there, "s")) == ["COMPLETE", "RUNNING"]
    assert run(config, there).finished == 4
    study = open_study(there, "s")
    assert [list(values_by_epoch(study, trial)) for trial in range(4)] == [[1, 2, 3]] * 4
