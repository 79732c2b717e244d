from __future__ import annotations

import os
import shutil
import socket
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the suite runs the same with and without a GPU
os.environ["MPLBACKEND"] = "Agg"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for name in (
    "MLFLOW_TRACKING_URI",
    *(each for each in os.environ if each.startswith("MNIST_LAB_")),
):
    os.environ.pop(name, None)

from pathlib import Path

import numpy as np
import pytest

from mnist_lab.data import load_dataset, shared
from mnist_lab.data.load import locate
from mnist_lab.execution.figures import FigureProcess
from mnist_lab.execution.forkserver import warm_up
from mnist_lab.settings import Settings

warm_up()  # with Keras, whatever backend the first test that starts a process asks for


def pytest_addoption(parser):
    parser.addoption("--executor", help="Ask of another package's executor what all promise.")


def pytest_itemcollected(item):
    """Mark a test's other parameters slow: ``only_by_default`` names those of the default suite."""
    marker = item.get_closest_marker("only_by_default")
    if marker and item.callspec.id not in marker.args:
        item.add_marker("slow")


@pytest.fixture(autouse=True)
def no_figures_of_data_sets(monkeypatch, request):
    """Drawing them takes three seconds a study; tests/execution/test_figures.py has them drawn."""
    if request.path.name != "test_figures.py":
        monkeypatch.setattr(FigureProcess, "draw_dataset", lambda self, folder: None)


@pytest.fixture(scope="session")
def small_file(tmp_path_factory):
    """720 + 120 real MNIST images as an .npz: 600 to train, 120 to validate, 120 to test."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    with np.load(locate("mnist")) as whole:
        np.savez(
            path,
            x_train=whole["x_train"][:720],
            y_train=whole["y_train"][:720],
            x_test=whole["x_test"][:120],
            y_test=whole["y_test"][:120],
        )
    return path


@pytest.fixture(scope="session")
def small_dataset(small_file):
    return load_dataset(str(small_file))


@pytest.fixture(scope="session")
def strangers():
    """The path of a space file with models that other people would write."""
    return Path(__file__).parent / "strangers.py"


@pytest.fixture(scope="session")
def shared_data(small_dataset, tmp_path_factory):
    """The small data set as workers find it."""
    with shared(small_dataset, tmp_path_factory.mktemp("shared") / "data") as folder:
        yield folder


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory):
    """An MLflow database with its schema: creating one takes seconds, copying it does not."""
    from mnist_lab.tracking.store import open_client

    home = tmp_path_factory.mktemp("template")
    open_client(Settings(home=home))
    return home / "mlflow.db"


@pytest.fixture(scope="session")
def optuna_template(tmp_path_factory):
    """A study database with its schema: creating one takes 0.4 s."""
    from mnist_lab.study import connect

    home = tmp_path_factory.mktemp("studies")
    storage = connect(Settings(home=home))
    storage.engine.dispose()
    return home / "optuna.db"


@pytest.fixture
def settings(tmp_path, mlflow_template, optuna_template, monkeypatch):
    """A home of its own, which is also the current folder, with ready databases."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(mlflow_template, home / "mlflow.db")
    shutil.copyfile(optuna_template, home / "optuna.db")
    monkeypatch.chdir(home)
    return Settings(home=home)


@pytest.fixture
def client(settings):
    from mnist_lab.tracking.store import open_client

    return open_client(settings)


@pytest.fixture
def plain_mlflow(settings):
    """MLflow's fluent API on this test's store; it keeps the URI in the environment, so undo that."""
    import mlflow

    mlflow.set_tracking_uri(settings.tracking_uri)
    yield mlflow
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def cluster():
    """A Ray cluster: a head on which nothing runs, and node a with one CPU."""
    from cluster import Cluster

    made = Cluster()
    try:
        made.add("a")
        yield made
    finally:
        made.close()


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def wait_until():
    """Call a function until it returns something true; errors count as false until the time is up."""

    def wait(condition, *, seconds=120):
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise
            assert time.monotonic() < deadline, f"not true within {seconds} s"
            time.sleep(0.1)

    return wait
