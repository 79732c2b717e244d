"""FAULTS 36: a study's database server that is restarted, or stays away. PostgreSQL, a real one."""

from __future__ import annotations

import gc
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import ExitStack

import pytest
import sqlalchemy

from mnist_lab.config import SweepConfig
from mnist_lab.errors import BusyError, ServiceError
from mnist_lab.settings import Settings
from mnist_lab.study import is_locked, lock, lock_model, lock_study, open_study, storage
from mnist_lab.sweep import launch
from services import PG_CTL, Postgres

from .conftest import states, values_by_epoch

pytestmark = pytest.mark.skipif(PG_CTL is None, reason="there is no PostgreSQL here")


@pytest.fixture
def server(free_port):
    server = Postgres(free_port)
    server.start()
    yield server
    server.close()
    with warnings.catch_warnings():  # Optuna leaves its connections to the process's end
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def there(server, settings):
    """This test's settings, with the study on the server."""
    return Settings(home=settings.root, storage_override=server.url)


@pytest.fixture
def elsewhere(there, tmp_path):
    """Another home, as another machine has it, with the same study."""
    return Settings(home=tmp_path / "elsewhere", storage_override=there.storage)


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


def test_a_second_supervisor_from_another_home_is_refused_and_names_the_first(
    there, elsewhere, config, faults
):
    refused = []

    def begin_beside():
        with pytest.raises(BusyError) as error:
            run(config, elsewhere)
        refused.append(str(error.value))

    assert run(config, there, once("trial 1 epoch 1/", begin_beside)).finished == 4
    assert f"mnist-lab {os.getpid()} on {platform.node()}"[:63] in refused[0]
    assert run(config, elsewhere).finished == 4  # it is free now


def test_a_trial_whose_checkpoints_another_machine_has_is_said_to_begin_anew(
    there, elsewhere, config, faults
):
    news = []

    def stop(progress):
        if "trial 1 epoch 1/" in str(progress.news):
            os.kill(os.getpid(), signal.SIGINT)

    assert run(config, there, stop).signal == 130
    assert run(config, elsewhere, lambda each: news.append(str(each.news))).finished == 4
    assert any("trial 1 begins anew" in each for each in news)


def test_a_study_that_another_machine_sweeps_is_known_to_be_locked(there, elsewhere):
    with lock_study(there, "s"):
        assert is_locked(elsewhere, "s")
        assert not is_locked(elsewhere, "t")
        with lock_study(elsewhere, "t"):  # another study is free
            assert is_locked(there, "t")
    assert not is_locked(elsewhere, "s")


def test_two_machines_do_not_decide_about_one_model_at_once(there, elsewhere):
    with lock_model(there, "mnist-fnn"):
        with (
            pytest.raises(BusyError, match="decided about just now by mnist-lab"),
            lock_model(elsewhere, "mnist-fnn"),
        ):
            pass
        with lock_model(elsewhere, "mnist-cnn"):  # another model is free
            pass
    with lock_model(elsewhere, "mnist-fnn"):
        pass


def test_the_lock_is_taken_again_after_the_server_was_restarted(server, there, elsewhere):
    with lock_study(there, "s") as held:
        server.stop()
        server.start()
        assert not is_locked(elsewhere, "s")  # the server has forgotten it
        held.verify()
        assert is_locked(elsewhere, "s")


def test_a_supervisor_whose_study_was_taken_while_the_server_was_away_stops(
    server, there, elsewhere, config, faults, monkeypatch
):
    monkeypatch.setattr(lock, "VERIFY_SECONDS", 0.0)
    # The other is this very process here, whose own broken connection would be waited for.
    monkeypatch.setattr(storage, "SERVER_PATIENCE_SECONDS", 1.0)
    with ExitStack() as held:

        def lose_it():
            server.stop()
            server.start()
            held.enter_context(lock_study(elsewhere, "s"))

        with pytest.raises(BusyError, match="is being swept by mnist-lab"):
            run(config, there, once("trial 1 epoch 1/", lose_it))
        assert states(open_study(there, "s"))[1] == "RUNNING"  # the other's to end
    assert run(config, elsewhere).finished == 4


def test_studies_that_are_opened_often_leave_few_connections_open(there, config, faults):
    run(config, there)
    for _ in range(30):
        assert open_study(there, "s").count() == 4
    gc.collect()
    watching = sqlalchemy.create_engine(there.storage)
    with watching.connect() as connection:
        found = connection.execute(sqlalchemy.text("SELECT count(*) FROM pg_stat_activity"))
        background = 6  # PostgreSQL's own processes, with a margin
        assert found.scalar_one() <= background + 3
    watching.dispose()


def test_a_process_that_is_killed_holds_no_lock(there, elsewhere):
    script = (
        "import sys; from mnist_lab.settings import Settings\n"
        "from mnist_lab.study import lock_study\n"
        "settings = Settings(home=sys.argv[1], storage_override=sys.argv[2])\n"
        "with lock_study(settings, 's'):\n    print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, str(there.root), there.storage]
    with subprocess.Popen(words, stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"held\n"
        assert is_locked(elsewhere, "s")
        other.kill()
    deadline = time.monotonic() + 60  # the server notices the closed connection
    while is_locked(elsewhere, "s"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
