"""FAULTS 18: a tracking server that is absent, dies, answers 503, never answers, or drops replies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from mlflow import MlflowClient

from mnist_lab.config import SweepConfig
from mnist_lab.publish import background, sync
from mnist_lab.settings import Settings
from mnist_lab.sweep import launch
from mnist_lab.tracking.server import server_environment

from .conftest import CONFIG, states
from .stub_server import StubServer

# Seconds; longer than a test may take. Where a sweep ends, it has waited for nothing of this kind.
FOR_EVER = 600


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
    deadline = time.monotonic() + 200
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


@pytest.fixture
def sweep_there(settings, stub, faults, small_file, monkeypatch):
    """Sweep with the stub as tracking server.

    Neither MLflow nor the end of a sweep gives up: what ends it is that it waits two seconds for a
    server that has failed, or not answered yet.
    """
    remote = Settings(home=settings.root, tracking_uri_override=stub.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(FOR_EVER))
    monkeypatch.setattr(background, "PATIENCE_SECONDS", FOR_EVER)
    assert background.PATIENCE_WITH_BROKEN_SECONDS < 2

    def sweep(name, listener=lambda _: None):
        config = {**CONFIG, "study": name, "trials": TRIALS, "dataset": str(small_file)}
        trainer = "fakes:run_slow_trial"
        return launch(SweepConfig(**config), remote, trainer=trainer, listener=listener)

    sweep.settings = remote
    return sweep


def test_a_server_that_is_absent_costs_two_seconds_and_sync_closes_the_gap(
    sweep_there, stub, there, study, compare
):
    result = sweep_there("absent")
    assert states(study("absent")) == ["COMPLETE"] * TRIALS
    assert result.lag.items
    stub.start()
    (row,) = sync(sweep_there.settings, "absent")
    assert (row.trials, row.written, row.models) == (TRIALS, TRIALS, 3)
    compare("absent", there)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hang", pytest.param("503", marks=pytest.mark.slow)])
def test_a_server_that_does_not_serve_costs_two_seconds_and_sync_closes_the_gap(
    mode, sweep_there, stub, there, study, compare
):
    stub.start()
    stub.mode = mode
    result = sweep_there(f"mode-{mode}")
    assert states(study(f"mode-{mode}")) == ["COMPLETE"] * TRIALS
    assert result.lag.items
    stub.mode = "up"
    sync(sweep_there.settings, f"mode-{mode}")
    compare(f"mode-{mode}", there)


@pytest.mark.slow
def test_a_server_that_dies_and_returns_has_everything_at_the_end(
    sweep_there, stub, there, study, compare, monkeypatch
):
    failed, news = threading.Event(), []
    note = background.BackgroundWriter._note

    def note_and_say(writer, error):
        note(writer, error)
        failed.set()

    def listen(progress):
        news.append(str(progress.news))
        if "trial 1 epoch 2/" in news[-1]:
            stub.stop()
        if "trial 1 epoch 3/" in news[-1]:  # which there is nobody to take
            assert failed.wait(120), "nobody has missed the server"
        if "tracking fails, training goes on" in news[-1]:
            stub.start()

    monkeypatch.setattr(background.BackgroundWriter, "_note", note_and_say)
    stub.start()
    result = sweep_there("returns", listen)
    assert any("tracking fails, training goes on" in each for each in news)
    if result.lag.items:  # it may still have been waiting to try again
        sync(sweep_there.settings, "returns")
    compare("returns", there)


@pytest.mark.slow
def test_a_server_whose_replies_are_lost_has_every_run_and_epoch_once(
    sweep_there, stub, there, study, compare
):
    stub.start()
    stub.mode = "drop"
    sweep_there("drop")
    stub.mode = "up"
    sync(sweep_there.settings, "drop")
    compare("drop", there)
    again = sync(sweep_there.settings, "drop")[0]
    assert again.written == 0
