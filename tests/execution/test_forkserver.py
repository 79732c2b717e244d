"""Where workers come from."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import psutil
import pytest

from fakes import answer, has_imported, threads_of_parent
from mnist_lab.execution import forkserver
from mnist_lab.execution.forkserver import end_process, start_process


@pytest.fixture
def ask(caplog):
    """What ``function`` returns in a new process; the process is alive until the test's end."""
    caplog.set_level("INFO", logger="mnist_lab")  # a test that fails tells why nothing was forked
    started = []

    def ask(function, *arguments, fresh=False):
        ours, theirs = Pipe()
        process = start_process(answer, theirs, function, *arguments, name="asked", fresh=fresh)
        started.append((process, ours))
        theirs.close()
        return ours.recv()

    yield ask
    for process, connection in started:
        connection.close()
        end_process(process, grace=5)
        assert not process.is_alive()


@pytest.fixture
def kill_template(ask, wait_until):
    def kill():
        template = ask(os.getppid)
        os.kill(template, signal.SIGKILL)
        # Not psutil's "zombie": that it is already when a thread of it has yet to end.
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        wait_until(lambda: os.waitid(os.P_PID, template, ended))

    return kill


def test_a_template_has_imported_keras_and_begun_no_thread(ask):
    assert ask(has_imported, "tensorflow", "keras", "pytest") == [True, True, False]
    assert len(ask(threads_of_parent)) == 1


def test_a_fresh_process_has_imported_nothing(ask):
    assert ask(has_imported, "tensorflow", "keras", "pytest", fresh=True) == [False, False, False]


def test_a_backend_that_starts_threads_is_never_forked(ask, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert ask(has_imported, "tensorflow") == [False]


def test_a_process_has_the_environment_of_now_not_of_the_template(ask, monkeypatch):
    ask(os.getpid)  # the template runs
    monkeypatch.setenv("OF_NOW", "yes")
    monkeypatch.delenv("MPLBACKEND")
    assert [ask(os.getenv, name) for name in ("OF_NOW", "MPLBACKEND")] == ["yes", None]


def test_ctrl_c_and_sigterm_are_left_to_the_supervisor(ask):
    handlers = [ask(signal.getsignal, each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert handlers == [signal.SIG_IGN, signal.SIG_IGN]
    assert not ask(signal.pthread_sigmask, signal.SIG_BLOCK, []) & set(forkserver.HELD)


def test_the_template_hears_neither_ctrl_c_nor_sigterm(ask):
    status = Path(f"/proc/{ask(os.getppid)}/status").read_text()
    blocked = int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16)
    assert all(blocked >> (each - 1) & 1 for each in forkserver.HELD)


@pytest.mark.slow
def test_a_file_of_the_current_folder_passes_for_no_library(
    ask, kill_template, tmp_path, monkeypatch
):
    (tmp_path / "secrets.py").write_text("raise RuntimeError('imported')")
    monkeypatch.chdir(tmp_path)
    kill_template()  # the next one starts here
    assert ask(has_imported, "keras", "secrets") == [True, True]


def test_without_a_socket_processes_are_started_from_nothing(ask, monkeypatch, caplog):
    def refuse():
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr("multiprocessing.forkserver.ensure_running", refuse)
    monkeypatch.setattr("multiprocessing.forkserver.connect_to_new_process", lambda _: refuse())
    forkserver.warm_up()
    assert ask(has_imported, "keras") == [False]
    assert "asked is started from nothing" in caplog.text


def test_a_process_whose_template_died_is_ended_all_the_same(wait_until):
    ours, theirs = Pipe()
    process = start_process(answer, theirs, os.getppid, name="orphan")
    template, orphan = psutil.Process(ours.recv()), psutil.Process(process.pid)
    template.kill()
    wait_until(lambda: template.status() == psutil.STATUS_ZOMBIE)
    end_process(process, grace=5)
    orphan.wait(5)
    assert not orphan.is_running()


@pytest.mark.slow
def test_after_a_template_died_another_is_started(ask, kill_template):
    kill_template()
    assert ask(has_imported, "keras") == [True]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_script_without_a_guard_is_not_run_again_by_its_workers(tmp_path, fresh):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from mnist_lab.execution.forkserver import start_process\n"
        "print('once', flush=True)\n"
        f"process = start_process(time.sleep, 0, name='w', fresh={fresh})\n"
        "process.join()\n"
        "print(process.exitcode)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "KERAS_BACKEND": "none"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "once\n0\n"
