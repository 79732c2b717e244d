"""FAULTS 18: a tracking server that is absent, dies, answers 503, never answers, or drops replies."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request

import pytest
from mlflow import MlflowClient

from mnist_lab.publish import sync
from mnist_lab.settings import Settings
from mnist_lab.study.config import SweepConfig
from mnist_lab.sweep import launch
from mnist_lab.tracking import NullTracker
from mnist_lab.tracking.server import server_environment

from .conftest import CONFIG, states
from .stub_server import StubServer

# The promise is 2 s; the machine that runs this may be busy.
MOST_SECONDS = 2.0 + 1.5


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory, mlflow_template):
    """A real MLflow server; the address behind the stub."""
    import shutil
    import socket

    home = tmp_path_factory.mktemp("server")
    shutil.copyfile(mlflow_template, home / "mlflow.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--workers", "1", "--backend-store-uri", f"sqlite:///{home}/mlflow.db"]
    words += ["--artifacts-destination", str(home / "artifacts"), "--serve-artifacts"]
    process = subprocess.Popen(
        words, env=server_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"127.0.0.1:{port}"
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"http://{address}/health", timeout=2).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "MLflow's server does not start"
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait()


@pytest.fixture
def stub(mlflow_server, free_port):
    server = StubServer(free_port, mlflow_server)
    yield server
    server.stop()


@pytest.fixture
def there(mlflow_server):
    """A client of the server behind the stub."""
    return MlflowClient(tracking_uri=f"http://{mlflow_server}")


TRIALS = 4


def run(settings, dataset, name, listener=lambda _: None, **options):
    """Sweep; return the result and the seconds that it took."""
    began = time.monotonic()
    config = SweepConfig(**{**CONFIG, "study": name, "trials": TRIALS, "dataset": str(dataset)})
    result = launch(config, settings, trainer="fakes:run_slow_trial", listener=listener, **options)
    return result, time.monotonic() - began


@pytest.fixture(scope="module")
def alone(small_file, tmp_path_factory):
    """The seconds of a sweep that is not tracked: the shorter of two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "none")
        settings = Settings(home=tmp_path_factory.mktemp("alone"))
        names = ("first", "second")
        untracked = {"make_tracker": lambda *_: NullTracker()}
        return min(run(settings, small_file, name, **untracked)[1] for name in names)


@pytest.fixture
def timed(settings, stub, faults, small_file, alone):
    """Sweep with the stub as tracking server; return the result and what tracking cost."""
    remote = Settings(home=settings.root, tracking_uri_override=stub.uri)

    def timed(name, listener=lambda _: None):
        result, seconds = run(remote, small_file, name, listener)
        return result, seconds - alone

    timed.settings = remote
    return timed


def test_a_server_that_is_absent_costs_two_seconds_and_sync_closes_the_gap(
    timed, stub, there, study, compare
):
    result, cost = timed("absent")
    assert states(study("absent")) == ["COMPLETE"] * TRIALS
    assert result.lag.items
    assert cost < MOST_SECONDS
    stub.start()
    (row,) = sync(timed.settings, "absent")
    assert (row.trials, row.written, row.models) == (TRIALS, TRIALS, 3)
    compare("absent", there)


@pytest.mark.parametrize("mode", ["hang", pytest.param("503", marks=pytest.mark.slow)])
def test_a_server_that_does_not_serve_costs_two_seconds_and_sync_closes_the_gap(
    mode, timed, stub, there, study, compare
):
    stub.start()
    stub.mode = mode
    result, cost = timed(f"mode-{mode}")
    assert states(study(f"mode-{mode}")) == ["COMPLETE"] * TRIALS
    assert result.lag.items
    assert cost < MOST_SECONDS
    stub.mode = "up"
    sync(timed.settings, f"mode-{mode}")
    compare(f"mode-{mode}", there)


@pytest.mark.slow
def test_a_server_that_dies_and_returns_has_everything_at_the_end(
    timed, stub, there, study, compare
):
    stub.start()
    news = []

    def listen(progress):
        news.append(progress.news)
        if "trial 1 epoch 2/" in progress.news:
            stub.stop()
        if "trial 2 epoch 2/" in progress.news:
            stub.start()

    result, cost = timed("returns", listen)
    assert any("tracking fails, training goes on" in each for each in news)
    assert cost < MOST_SECONDS
    if result.lag.items:  # it may still have been waiting to try again
        sync(timed.settings, "returns")
    compare("returns", there)


def test_a_server_whose_replies_are_lost_has_every_run_and_epoch_once(
    timed, stub, there, study, compare
):
    stub.start()
    stub.mode = "drop"
    timed("drop")
    stub.mode = "up"
    sync(timed.settings, "drop")
    compare("drop", there)
    again = sync(timed.settings, "drop")[0]
    assert again.written == 0
