from __future__ import annotations

import http.server
import os
import sqlite3
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

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


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:///x.db", "sqlite:///{home}/x.db"),
        ("sqlite:///sub/x.db?timeout=9", "sqlite:///{home}/sub/x.db?timeout=9"),
        ("sqlite+pysqlite:///x.db", "sqlite+pysqlite:///{home}/x.db"),
        ("sqlite:////abs/x.db", "sqlite:////abs/x.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("./runs", "file://{home}/runs"),
        ("file:runs", "file://{home}/runs"),
        ("file:///abs/runs", "file:///abs/runs"),
        ("/abs/runs", "file:///abs/runs"),
        ("http://host:5000", "http://host:5000"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("databricks", "databricks"),
    ],
)
def test_a_relative_tracking_address_is_meant_from_the_home_folder(
    tmp_path, monkeypatch, given, meant
):
    monkeypatch.chdir("/")
    settings = Settings(home=tmp_path, tracking_uri_override=given)
    assert settings.tracking_uri == meant.format(home=tmp_path)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:///x.db", "sqlite:///{home}/x.db"),
        ("sqlite:////abs/x.db", "sqlite:////abs/x.db"),
        ("postgresql+psycopg://host/db", "postgresql+psycopg://host/db"),
    ],
)
def test_a_relative_storage_is_meant_from_the_home_folder(tmp_path, given, meant):
    assert Settings(home=tmp_path, storage_override=given).storage == meant.format(home=tmp_path)


def test_a_relative_data_folder_is_meant_from_the_home_folder(tmp_path):
    assert Settings(home=tmp_path, data_override=Path("d")).data_folder == tmp_path / "d"


def test_exports_lie_in_the_home_folder(tmp_path):
    assert Settings(home=tmp_path).exports == tmp_path / "exports"


def test_a_version_is_made_of_a_logged_model_whatever_the_current_folder(
    settings, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    client = open_client(settings)
    experiment = client.create_experiment("e", artifact_location=tmp_path.as_uri())
    model = client.create_logged_model(experiment, name="m").model_id
    client.create_registered_model("r")
    version = client.create_model_version("r", f"models:/{model}", model_id=model)
    assert client.get_model_version_download_uri("r", str(version.version)).endswith("artifacts")
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


def test_opening_the_store_leaves_the_environment_as_it_was(settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:////of/the/user.db")
    open_client(Settings(home=settings.root))
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert os.environ["MLFLOW_REGISTRY_URI"] == "sqlite:////of/the/user.db"


def test_mlflows_own_experiment_has_its_artifacts_in_the_home_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    client = open_client(Settings(home=tmp_path / "home"))
    location = client.get_experiment("0").artifact_location
    assert location == (tmp_path / "home" / "mlruns" / "0").as_uri()


@pytest.mark.parametrize("uri", ["sqlite:///x.db", "postgresql://host/db", "mysql+pymysql://h/d"])
def test_artifacts_of_a_database_lie_below_the_home_folder(tmp_path, uri):
    settings = Settings(home=tmp_path, tracking_uri_override=uri)
    assert artifact_location(settings, "a/b") == (tmp_path / "mlruns" / "a-b").as_uri()


@pytest.fixture
def answering():
    """Start a server that answers everything with one status and body; returns its address."""
    servers = []

    def start(status, body):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://me:secret@127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b"You are not authenticated."),
        (403, b"Permission denied"),
        (401, b'{"error_code": "UNAUTHENTICATED", "message": "no"}'),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'),
    ],
)
def test_a_server_that_refuses_the_credentials_is_named_with_the_variables_to_set(
    answering, tmp_path, status, body
):
    settings = Settings(home=tmp_path, tracking_uri_override=answering(status, body))
    with pytest.raises(ServiceError) as caught:
        open_client(settings)
    said = str(caught.value)
    assert f"refuses the credentials ({status})" in said
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN" in said
    assert "secret" not in said
    assert "does not answer" not in said


def test_a_server_that_does_not_know_its_own_name_is_not_about_credentials(answering, tmp_path):
    address = answering(403, b"Invalid Host header - possible DNS rebinding attack detected")
    with pytest.raises(ServiceError, match="--allowed-hosts"):
        open_client(Settings(home=tmp_path, tracking_uri_override=address))


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
    process.wait(120)


def get(port, host=None):
    # Not /health or /version, which MLflow answers to any host name.
    request = urllib.request.Request(f"http://127.0.0.1:{port}/")
    if host:
        request.add_header("Host", host)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status


@pytest.mark.slow
@pytest.mark.timeout(900)  # a server, on a machine that is busy
def test_the_pages_answer_on_this_machine_and_to_its_own_names_only(server, wait_until):
    wait_until(lambda: get(server) == 200, seconds=240)
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(server, host="10.evil.example")
    refused.value.close()
    assert refused.value.code == 403
    assert get(server, host=f"localhost:{server}") == 200
