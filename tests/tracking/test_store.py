from __future__ import annotations

import sqlite3
import subprocess
import urllib.error
import urllib.request

import pytest

from mnist_lab.errors import ConfigurationError, ServiceError
from mnist_lab.settings import Settings
from mnist_lab.tracking.revision import git_commit
from mnist_lab.tracking.server import server_command, server_environment
from mnist_lab.tracking.store import artifact_location, open_client


def test_everything_lies_in_the_home_folder_by_default(tmp_path):
    settings = Settings(home=tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.storage == f"sqlite:///{tmp_path}/optuna.db"
    assert settings.artifact_root == tmp_path / "mlruns"
    assert settings.data_folder == tmp_path / "data"


def test_mlflows_own_variable_is_honoured(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    settings = Settings()
    assert settings.tracking_uri == "http://127.0.0.1:9"
    assert artifact_location(settings, "e") is None


def test_our_variables_move_the_rest(monkeypatch, tmp_path):
    monkeypatch.setenv("MNIST_LAB_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("MNIST_LAB_STORAGE", "postgresql://host/db")
    monkeypatch.setenv("MNIST_LAB_DATA", str(tmp_path / "b"))
    settings = Settings()
    assert settings.root == tmp_path / "a"
    assert settings.storage == "postgresql://host/db"
    assert settings.data_folder == tmp_path / "b"


def test_an_old_file_store_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("")
    with pytest.raises(ConfigurationError, match="migrate-filestore"):
        open_client(Settings(home=tmp_path))


def test_a_database_of_another_version_is_refused_with_the_upgrade_command(settings):
    with sqlite3.connect(settings.root / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    database.close()
    with pytest.raises(ConfigurationError, match="mlflow db upgrade"):
        open_client(settings)


def test_a_server_that_does_not_answer_is_a_service_error(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceError, match="does not answer"):
        open_client(Settings(home=tmp_path))


def test_the_commit_is_that_of_the_current_folder(tmp_path, monkeypatch):
    git_commit.cache_clear()
    monkeypatch.chdir(tmp_path)
    assert git_commit() == ""
    git_commit.cache_clear()
    run = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run(["git", "add", "file"], check=True)
    subprocess.run([*run, "commit", "-qm", "one"], check=True)
    clean = git_commit()
    assert len(clean) == 40
    git_commit.cache_clear()
    (tmp_path / "file").write_text("2")
    assert git_commit() == f"{clean}+dirty"
    git_commit.cache_clear()


@pytest.fixture
def server(settings, free_port):
    process = subprocess.Popen(
        server_command(settings, free_port),
        env=server_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield free_port
    process.terminate()
    process.wait(30)


def get(port, host=None):
    # Not /health or /version, which MLflow answers to any host name.
    request = urllib.request.Request(f"http://127.0.0.1:{port}/")
    if host:
        request.add_header("Host", host)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.status


def test_the_pages_answer_on_this_machine_and_to_its_own_names_only(server, wait_until):
    wait_until(lambda: get(server) == 200, seconds=60)
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(server, host="10.evil.example")
    refused.value.close()
    assert refused.value.code == 403
    assert get(server, host=f"localhost:{server}") == 200
