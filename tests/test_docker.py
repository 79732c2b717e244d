"""What the containers run, run here without containers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from mnist_lab.config import SweepConfig
from mnist_lab.settings import Settings
from mnist_lab.sweep import launch
from mnist_lab.tracking.store import open_client

FOLDER = Path(__file__).parent.parent / "docker"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
DOCKERFILE = (FOLDER / "Dockerfile").read_text()


@pytest.fixture
def mlflow_server(tmp_path, mlflow_template, free_port, wait_until):
    """The compose file's own command, its folder and port replaced by ones of this test."""
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    service = COMPOSE["mlflow"]
    program, *rest = service["entrypoint"]
    assert program == "python"
    words = [
        word.replace("/lab", str(tmp_path))
        .replace("5000", str(free_port))
        .replace("--host=0.0.0.0", "--host=127.0.0.1")
        for word in service["command"]
    ]
    environment = {**os.environ, **service["environment"], "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        [sys.executable, *rest, *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    url = f"http://127.0.0.1:{free_port}"

    def healthy():
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return answer.status == 200

    wait_until(healthy, seconds=240)
    open_client(Settings(home=tmp_path, tracking_uri_override=url))  # /health needs no database
    yield url
    process.terminate()
    process.wait(120)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a server and workers, on a machine that is busy
def test_a_sweep_reaches_the_server_that_the_compose_file_starts(
    mlflow_server, tmp_path, small_file, monkeypatch
):
    monkeypatch.setenv("KERAS_BACKEND", "none")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    settings = Settings(home=tmp_path / "lab")
    settings.root.mkdir()
    config = SweepConfig(
        space="fnn",
        trials=2,
        epochs=2,
        pruner="none",
        dataset=str(small_file),
        study="remote",
    )
    launch(config, settings, trainer="fakes:run_trial")
    client = open_client(settings)
    experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 3
    child = next(run for run in runs if run.info.run_name == "trial-0001")
    assert [file.path for file in client.list_artifacts(child.info.run_id, "figures")]
    assert len(client.search_logged_models([experiment.experiment_id])) == 2
    assert (tmp_path / "mlartifacts").is_dir()


def test_the_image_runs_the_command_as_an_ordinary_user():
    assert re.search(r'^ENTRYPOINT \["mnist-lab"\]$', DOCKERFILE, re.M)
    assert DOCKERFILE.index("\nUSER lab") < DOCKERFILE.index("\nENTRYPOINT")


def test_the_image_copies_only_what_is_there():
    root = FOLDER.parent
    for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.M):
        for name in line.split():
            assert (root / name).exists(), name


def test_nothing_is_reachable_from_beyond_the_machine():
    assert [port.startswith("127.0.0.1:") for port in COMPOSE["mlflow"]["ports"]] == [True]
    assert "ports" not in COMPOSE["lab"]


def test_every_service_has_a_read_only_root():
    assert all(service["read_only"] for service in COMPOSE.values())
