"""FAULTS R1 to R5: sweeps on a Ray cluster of several nodes, whose parts are killed from outside."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest

from cluster import Cluster
from mnist_lab import __version__
from mnist_lab.errors import ConfigurationError, ServiceError
from mnist_lab.execution import FailureReason, survey_cluster
from mnist_lab.study import study_names

from .conftest import children, read_until, states, values_by_epoch

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.timeout(900),
]


@pytest.fixture
def node_b(cluster):
    node = cluster.add("b")
    yield node
    node.kill()


@pytest.fixture
def two_slots(cluster, node_b):
    """A config for both nodes; epochs take long enough for a test to interrupt them."""
    return {"executor": cluster.address, "workers": 2}


def actors(node):
    """The processes of a node in which trials run: Ray gives them the actor's name."""
    found = []
    for pid in node.pids():
        with suppress(psutil.Error):
            if "ray::Slot" in " ".join(psutil.Process(pid).cmdline()):
                found.append(pid)
    return found


def once(word, do):
    """A listener that calls ``do``, in a thread, when ``word`` is in the news for the first time."""
    done = []

    def listen(progress):
        if word in str(progress.news) and not done:
            done.append(threading.Thread(target=do))
            done[0].start()

    return listen


def kill_actor_of(nodes):
    """Kill the first actor of ``nodes`` that trains: not one that is still starting."""
    for node in nodes:
        for pid in actors(node):
            os.kill(pid, signal.SIGKILL)
            return


def whole(study):
    """Every trial is complete, and no epoch is lacking or there twice."""
    assert states(study) == ["COMPLETE"] * 4
    assert [list(values_by_epoch(study, trial)) for trial in range(4)] == [[1, 2, 3]] * 4


def test_a_trial_whose_actor_is_killed_goes_on_from_its_checkpoint(
    cluster, node_b, two_slots, sweep, study, compare
):
    result = sweep(
        trainer="fakes:run_slow_trial",
        listener=once("epoch 1/3", lambda: kill_actor_of([cluster.nodes["a"], node_b])),
        **two_slots,
    )
    assert (result.finished, result.stopped, result.lag.items) == (4, None, 0)
    whole(study())
    assert [trial.retried for trial in study().trials() if trial.retried] == [("crashed",)]
    assert [trial.retrained for trial in study().trials()] == [0] * 4
    compare()


def test_a_node_that_is_lost_costs_no_retry(cluster, node_b, two_slots, sweep, study, compare):
    def lose_it():
        while not actors(node_b):
            time.sleep(0.05)
        node_b.kill()

    result = sweep(
        trainer="fakes:run_slow_trial", retries=0, listener=once("epoch 1/3", lose_it), **two_slots
    )
    assert (result.finished, result.reasons) == (4, {})
    whole(study())
    assert {reason for trial in study().trials() for reason in trial.retried} <= {
        FailureReason.NODE_LOST
    }
    compare()


@pytest.mark.slow
def test_slots_grow_with_a_node_that_joins_late(cluster, sweep, study):
    joining = threading.Thread(target=cluster.add, args=("late",))
    seen = set()

    def listen(progress):
        text = str(progress.news)
        if "trial 0 epoch 1/3" in text:
            joining.start()
        if "started on worker" in text:
            seen.add(int(text.rpartition(" ")[2]))

    try:
        sweep(
            trainer="fakes:run_slow_trial",
            executor=cluster.client_address,  # through a client's connection
            workers=2,
            trials=60,
            listener=listen,
        )
    finally:
        joining.join()
        cluster.nodes.pop("late").kill()
    assert seen == {0, 1}


@pytest.mark.slow
def test_the_only_node_may_be_lost_and_another_come(sweep, study):
    cluster = Cluster()

    def exchange():
        cluster.nodes.pop("first").kill()
        time.sleep(15)  # as long as nothing is there, nothing is wrong
        cluster.add("second")

    try:
        cluster.add("first")
        result = sweep(
            trainer="fakes:run_slow_trial",
            executor=cluster.address,
            workers=None,
            listener=once("trial 1 epoch 1/3", exchange),
        )
    finally:
        cluster.close()
    assert (result.finished, result.reasons) == (4, {})
    whole(study())


@pytest.mark.slow
def test_a_cluster_that_refuses_leaves_no_study_behind(cluster, sweep, settings):
    with pytest.raises(ConfigurationError, match="no GPU now"):
        sweep(executor=cluster.address, workers=None, device="gpu")
    assert study_names(settings) == []


@pytest.mark.slow
def test_a_silent_node_is_given_up(small_file, sweep, study):
    cluster = Cluster(
        RAY_health_check_period_ms="500",
        RAY_health_check_timeout_ms="1000",
        RAY_health_check_failure_threshold="3",
        RAY_health_check_initial_delay_ms="1000",
    )
    try:
        node = cluster.add("silent")
        cluster.add("other")
        result = sweep(
            trainer="fakes:run_slow_trial",
            executor=cluster.address,
            workers=2,
            trials=4,
            retries=0,
            listener=once("epoch 1/3", node.freeze),
        )
    finally:
        cluster.close()
    assert (result.finished, result.reasons) == (4, {})
    whole(study())


@pytest.mark.slow
def test_the_supervisor_survives_the_end_of_the_cluster(sweep, study, compare):
    cluster = Cluster()
    try:
        cluster.add("a")
        with pytest.raises(ServiceError, match="cluster is lost") as error:
            sweep(
                trainer="fakes:run_slow_trial",
                executor=cluster.address,
                trials=400,  # Ray ends its driver a minute after its head
                listener=once("trial 1 epoch 1/3", lambda: cluster.head.signal(signal.SIGKILL)),
            )
    finally:
        cluster.close()
    assert error.value.exit_code == 69
    assert "type the same command again" in str(error.value)
    compare()
    left = study().count()
    again = Cluster()
    try:
        again.add("a")
        assert sweep(executor=again.address, trials=left).finished == left
    finally:
        again.close()
    compare()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["address", "client_address"])
def test_no_actor_is_left_when_the_supervisor_is_killed(
    kind, cluster, supervise, sweep, study, compare, wait_until
):
    process = supervise(
        trainer="fakes:run_slow_trial",
        executor=getattr(cluster, kind),
        workers=1,
    )
    read_until(process, "trial 0 epoch 1/")
    assert actors(cluster.nodes["a"])
    process.kill()
    process.communicate()
    wait_until(lambda: not actors(cluster.nodes["a"]))
    result = sweep(executor=getattr(cluster, kind), workers=1)
    assert result.finished == 4
    whole(study())
    compare()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_sweep_on_a_cluster_as_on_one_machine(
    number, code, cluster, supervise, sweep, study, wait_until
):
    process = supervise(trainer="fakes:run_slow_trial", executor=cluster.address, workers=1)
    read_until(process, "trial 0 epoch 1/")
    os.killpg(process.pid, number)  # as Ctrl-C does: to the driver, too
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "trial 0 interrupted after epoch" in out
    wait_until(lambda: not actors(cluster.nodes["a"]))
    assert sweep(executor=cluster.address).finished == 4
    whole(study())


@pytest.mark.slow
def test_a_signal_ends_a_sweep_that_waits_for_a_free_slot(cluster, supervise, sweep):
    first = supervise(
        trainer="fakes:run_slow_trial", executor=cluster.address, workers=1, trials=200
    )
    read_until(first, "trial 0 epoch 1/")
    second = supervise(
        trainer="fakes:run_slow_trial", executor=cluster.address, workers=1, study="t"
    )
    time.sleep(15)  # long enough to have asked for a slot that nobody gives
    second.send_signal(signal.SIGINT)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 130, out + err
    assert first.poll() is None


@pytest.mark.slow
def test_a_driver_that_is_killed_ends_the_sweep_in_one_line(cluster, supervise, sweep, study):
    process = supervise(trainer="fakes:run_slow_trial", executor=cluster.address, workers=1)
    read_until(process, "trial 0 epoch 1/")
    # Which of its children the driver is, is known by its connections to the cluster.
    driver = next(
        each
        for each in children(process)
        if any(c.raddr and c.raddr.port == cluster.port for c in each.net_connections())
    )
    driver.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 69
    assert "Ray cluster is lost" in err
    assert sweep(executor=cluster.address).finished == 4
    whole(study())


@pytest.mark.slow
def test_any_schedule_of_kills_ends_with_every_trial_once(
    cluster, node_b, supervise, sweep, study, compare
):
    draw = random.Random(7)
    wanted = {"executor": cluster.address, "workers": 2, "trials": 12, "retries": 20}
    process = supervise(trainer="fakes:run_slow_trial", **wanted)
    for _ in range(8):
        time.sleep(draw.uniform(2, 8))
        what = draw.choice(["actor", "actor", "supervisor", "node"])
        if what == "actor":
            kill_actor_of(draw.sample([cluster.nodes["a"], cluster.nodes["b"]], 2))
        elif what == "node":
            cluster.nodes["b"].kill()
            cluster.add("b")
        else:
            process.kill()
            process.communicate()
            process = supervise(trainer="fakes:run_slow_trial", **wanted)
    process.communicate(timeout=600)
    cluster.nodes["b"].kill()
    result = sweep(executor=cluster.address, trials=12, retries=20)
    assert result.finished == study().count() == 12
    assert states(study()) == ["COMPLETE"] * 12
    compare()


@pytest.mark.slow
def test_a_killed_training_ends_as_an_undisturbed_one_in_every_digit(
    cluster, settings, config, small_file, tmp_path, monkeypatch
):
    from mnist_lab.config import SweepConfig
    from mnist_lab.settings import Settings
    from mnist_lab.study import open_study
    from mnist_lab.sweep import launch

    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    wanted = SweepConfig(**{
        **config, "trials": 1, "epochs": 40, "executor": cluster.address,
    })  # fmt: skip
    undisturbed = Settings(home=tmp_path / "undisturbed")
    launch(wanted, undisturbed)
    kill = once("epoch 5/40", lambda: kill_actor_of([cluster.nodes["a"]]))
    launch(wanted, settings, listener=kill)
    one, other = (open_study(each, "s").trial(0) for each in (undisturbed, settings))
    assert other.retried == ("crashed",)
    assert [each.metrics() for each in one.history] == [each.metrics() for each in other.history]
    assert len(one.history) == 40


def test_a_cluster_that_is_not_there_is_said_in_one_line(free_port, sweep, study):
    with pytest.raises(ServiceError, match=f"no Ray cluster at 127.0.0.1:{free_port}"):
        sweep(executor=f"127.0.0.1:{free_port}")


def test_ray_is_imported_in_no_process_that_does_not_use_it():
    code = "import mnist_lab.sweep, mnist_lab.execution, sys; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_nodes_of_a_cluster_are_shown_with_what_they_have(cluster, settings):
    nodes = survey_cluster(cluster.address, settings.work / "survey.log")
    assert sorted(node.cpus for node in nodes) == [0, 1]  # the head, and a
    assert sum(node.slots for node in nodes) == 1
    assert all(node.memory > 0 and node.problem == "" for node in nodes)
    assert {node.versions["mnist-lab"] for node in nodes} == {__version__}


def test_the_nodes_of_a_cluster_that_is_not_there_are_said_in_one_line(free_port, settings):
    with pytest.raises(ServiceError, match=f"no Ray cluster at 127.0.0.1:{free_port}"):
        survey_cluster(f"127.0.0.1:{free_port}", settings.work / "survey.log")
