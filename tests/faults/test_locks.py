"""FAULTS 15, 16, 17, 19: databases that others hold, studies that others sweep."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading

import pytest

from mnist_lab.errors import BusyError
from mnist_lab.publish import sync

from .conftest import read_until, states


class Lock:
    """An exclusive lock on a SQLite file, let go by ``release`` or after ``seconds``."""

    def __init__(self, file):
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._connection.execute("BEGIN EXCLUSIVE")
        self._timer = None

    def release_after(self, seconds):
        self._timer = threading.Timer(seconds, self.release)
        self._timer.start()

    def release(self):
        self._connection.execute("ROLLBACK")
        self._connection.close()

    def join(self):
        self._timer.join()


def lock_once(file, word, seconds, locks):
    """A listener that locks ``file`` when ``word`` is in the news for the first time."""

    def listen(progress):
        if word in str(progress.news) and not locks:
            locks.append(Lock(file))
            if seconds is not None:
                locks[0].release_after(seconds)

    return listen


@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_study_that_is_locked_for_a_while_is_waited_for(seconds, sweep, study, compare, settings):
    locks = []
    file = settings.root / "optuna.db"
    result = sweep(listener=lock_once(file, "trial 1 epoch 1/", seconds, locks))
    locks[0].join()
    assert result.finished == 4
    assert states(study()) == ["COMPLETE"] * 4
    compare()


@pytest.mark.parametrize(
    ("seconds", "patience"), [(4, 1), pytest.param(130, 60, marks=pytest.mark.slow)]
)
@pytest.mark.timeout(400)
def test_a_study_that_stays_locked_is_an_error_that_loses_nothing(
    seconds, patience, sweep, study, compare, settings, monkeypatch
):
    monkeypatch.setattr("mnist_lab.study.storage.SQLITE_PATIENCE_SECONDS", patience)
    locks = []
    file = settings.root / "optuna.db"
    with pytest.raises(BusyError, match="locked the study's database") as caught:
        sweep(listener=lock_once(file, "trial 1 epoch 1/", seconds, locks))
    assert caught.value.exit_code == 75
    locks[0].join()
    assert sweep().finished == 4
    compare()


@pytest.mark.slow
def test_an_mlflow_database_that_stays_locked_costs_no_training(sweep, study, compare, settings):
    locks = []
    file = settings.root / "mlflow.db"
    result = sweep(listener=lock_once(file, "trial 1 epoch 1/", None, locks))
    assert states(study()) == ["COMPLETE"] * 4
    assert result.lag.items
    locks[0].release()
    assert sync(settings)[0].written
    compare()


@pytest.mark.slow
def test_an_mlflow_database_that_is_locked_at_the_start_costs_no_training(
    sweep, study, compare, settings
):
    lock = Lock(settings.root / "mlflow.db")
    assert sweep().finished == 4
    lock.release()
    sync(settings)
    compare()


@pytest.mark.slow  # MLflow's schema is created, which takes seconds
@pytest.mark.parametrize("count", [2, 8])
def test_processes_that_create_the_databases_at_once_make_one_of_each(count, tmp_path):
    program = (
        "from mnist_lab.settings import Settings; from mnist_lab.study import connect\n"
        "from mnist_lab.tracking.store import open_client\n"
        "connect(Settings()); open_client(Settings())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=-1, text=True)
        for _ in range(count)
    ]
    said = [process.communicate(timeout=200)[1] for process in running]
    assert [process.returncode for process in running] == [0] * count, said
    for name in ("optuna.db", "mlflow.db"):
        with sqlite3.connect(tmp_path / name) as database:
            rows = database.execute("SELECT count(*) FROM alembic_version").fetchone()
        database.close()
        assert rows == (1,)


def test_a_second_sweep_of_a_study_is_refused_and_a_dead_one_holds_nothing(supervise, sweep, study):
    process = supervise(trainer="fakes:run_slow_trial")
    read_until(process, "epoch 1/")
    with pytest.raises(BusyError, match=f"is being swept by process {process.pid}"):
        sweep()
    process.kill()
    process.wait()
    assert sweep().finished == 4
