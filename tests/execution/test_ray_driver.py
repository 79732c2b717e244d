"""What the driver of a cluster decides, with a Ray whose answers these tests give; the real one is in
``tests/faults/test_ray.py``."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from fakes import finished
from mnist_lab.errors import ConfigurationError, ServiceError
from mnist_lab.execution import FailureReason, TrialFailed, TrialFinished, TrialJob, TrialStarted
from mnist_lab.execution import ray_driver as driving
from mnist_lab.execution.ray_messages import DriverSpec, Kill, Slots, Submit
from mnist_lab.execution.slot import SlotFacts, find_versions


class ActorDiedError(Exception):
    pass


class RayTaskError(Exception):
    pass


class Actor:
    """Remembers the calls; ``answer`` gives the first open call of a name its value or error."""

    def __init__(self, options):
        self.options, self.calls, self.is_alive = options, [], True

    def __getattr__(self, name):
        def remote(*given):
            future = Future()
            self.calls.append((name, given, future))
            return SimpleNamespace(future=lambda: future)

        return SimpleNamespace(remote=remote)

    def answer(self, call, value=None, error=None):
        future = next(f for name, _, f in self.calls if name == call and not f.done())
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def given(self, call):
        return [given for name, given, _ in self.calls if name == call]


class Ray:
    def __init__(self):
        self.actors, self.cpus = [], 2

    def put(self, value):
        return value

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": self.cpus}}] if self.cpus else []

    def remote(self, kind):
        def options(**given):
            def make(*_):
                self.actors.append(Actor(given))
                return self.actors[-1]

            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)

    def kill(self, actor):
        actor.is_alive = False


@pytest.fixture
def ray(monkeypatch):
    made = Ray()
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


@pytest.fixture
def clock(monkeypatch):
    """The driver's time, moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(driving.time, "monotonic", lambda: now[0])
    return now


class Cluster:
    """A driver, what it has sent, and its turn of the loop."""

    def __init__(self, ray, folder, data, **changes):
        fields = {
            "address": "auto", "workers": None, "device": None, "workers_per_gpu": 1, "at_most": 50,
            "precision": None, "threads": None, "trainer": "t", "dataset": data, "log": folder / "l",
        }  # fmt: skip
        self.ray, self.folder, self.sent = ray, folder, []
        self.driver = driving._Driver(DriverSpec(**{**fields, **changes}), self.sent.append)

    def turn(self):
        """Give back, grow, and work off what has come."""
        self.driver._give_back_idle()
        self.driver._grow()
        while not self.driver._inbox.empty():
            self.driver._work_off(self.driver._inbox.get())

    def take(self, kind=object):
        self.turn()
        found = [each for each in self.sent if isinstance(each, kind)]
        self.sent.clear()
        return found

    def submit(self, trial=0):
        job = TrialJob(
            trial=trial, study="s", space="fnn", space_digest="", params={}, epochs=2, seed=0,
            folder=str(self.folder / f"trial-{trial}"),
        )  # fmt: skip
        self.driver._work_off(Submit(job))
        self.turn()

    def ready(self, actor, **versions):
        facts = SlotFacts(
            host="lab-1", pid=7, device="cpu", versions={**find_versions(), **versions}
        )
        actor.answer("hello", facts)
        self.turn()


@pytest.fixture
def make(ray, tmp_path, shared_data):
    return lambda **changes: Cluster(ray, tmp_path, shared_data, **changes)


def test_slots_are_those_that_have_answered_and_one_before(make, ray):
    cluster = make()
    assert cluster.take(Slots) == [Slots(1)]
    assert [actor.options["num_cpus"] for actor in ray.actors] == [1, 1]
    cluster.ready(ray.actors[0])
    cluster.ready(ray.actors[1])
    assert cluster.take(Slots) == [Slots(2)]


def test_a_job_waits_for_the_first_slot_that_answers(make, ray):
    cluster = make()
    cluster.submit()
    assert ray.actors[0].given("begin") == []
    cluster.ready(ray.actors[1])
    assert len(ray.actors[1].given("begin")) == 1


def test_a_dead_actor_that_had_not_begun_its_job_costs_the_trial_nothing(make, ray):
    cluster = make(workers=1)
    cluster.ready(ray.actors[0])
    cluster.submit()
    ray.actors[0].answer("begin", error=ActorDiedError("The worker process has died."))
    assert cluster.take(TrialFailed) == []
    cluster.ready(ray.actors[1])
    assert len(ray.actors[1].given("begin")) == 1


def test_what_a_slot_itself_raises_is_the_trials_failure(make, ray):
    cluster = make(workers=1)
    cluster.ready(ray.actors[0])
    cluster.submit()
    ray.actors[0].answer("begin", error=RayTaskError("OSError: No space left"))
    (failed,) = cluster.take(TrialFailed)
    assert failed.reason == FailureReason.CRASHED
    assert not ray.actors[0].is_alive


def test_a_full_disk_of_a_node_moves_the_trial_and_stops_nothing(make, ray):
    cluster = make(workers=1)
    cluster.ready(ray.actors[0])
    cluster.submit()
    ray.actors[0].answer("next", (TrialStarted(trial=0, worker=0), {}))
    cluster.turn()
    full = TrialFailed(trial=0, reason=FailureReason.DISK_FULL, detail="0 bytes free")
    ray.actors[0].answer("next", (full, {}))
    (failed,) = cluster.take(TrialFailed)
    assert failed.reason == FailureReason.NODE_LOST
    assert "lab-1" in failed.detail


def test_an_idle_slot_is_given_back_and_hired_again_when_it_is_wanted(make, ray, clock):
    cluster = make(workers=2)
    for actor in ray.actors:
        cluster.ready(actor)
    cluster.take()
    clock[0] += driving.IDLE_SECONDS + 1
    cluster.turn()
    assert [actor.is_alive for actor in ray.actors] == [False, False]
    cluster.submit()
    assert len(ray.actors) == 3  # one for one job
    assert cluster.take(Slots) == [Slots(1)]
    cluster.ready(ray.actors[2])
    assert len(ray.actors[2].given("begin")) == 1


def test_a_slot_that_works_is_not_given_back(make, ray, clock):
    cluster = make(workers=1)
    cluster.ready(ray.actors[0])
    cluster.submit()
    clock[0] += 10 * driving.IDLE_SECONDS
    cluster.turn()
    assert ray.actors[0].is_alive


def test_slots_are_added_for_a_node_that_joins_and_none_is_refused_for_one_that_goes(
    make, ray, clock
):
    cluster = make()
    ray.cpus = 0  # the only node is lost
    clock[0] += driving.GROW_SECONDS + 1
    cluster.turn()
    ray.cpus = 3
    clock[0] += driving.GROW_SECONDS + 1
    cluster.turn()
    assert len(ray.actors) == 3


def test_a_cluster_of_other_versions_is_refused(make, ray):
    cluster = make()
    with pytest.raises(ConfigurationError, match="lab-1 has other versions: keras"):
        cluster.ready(ray.actors[0], keras="2.0")


def test_a_late_node_of_other_versions_ends_nothing(make, ray):
    cluster = make()
    cluster.ready(ray.actors[0])
    cluster.submit()
    cluster.ready(ray.actors[1], keras="2.0")
    assert not ray.actors[1].is_alive
    assert ray.actors[0].is_alive
    assert len(ray.actors) == 2  # it is not tried again


def test_slots_that_never_start_end_the_sweep_with_what_one_of_them_said(make, ray):
    cluster = make(workers=1)
    lacking = RayTaskError("No module named 'mnist_lab'")
    for _ in range(driving.MAX_START_FAILURES - 1):
        ray.actors[-1].answer("hello", error=lacking)
        cluster.turn()
    ray.actors[-1].answer("hello", error=lacking)
    with pytest.raises(ServiceError, match="No module named 'mnist_lab'"):
        cluster.turn()


def test_nodes_that_are_lost_while_slots_start_are_no_failed_starts(make, ray):
    cluster = make(workers=1)
    for _ in range(2 * driving.MAX_START_FAILURES):
        ray.actors[-1].answer("hello", error=ActorDiedError("its node has died"))
        cluster.turn()
    assert ray.actors[-1].is_alive


def test_a_timeout_does_not_end_a_job_that_waits_and_a_stop_does(make):
    cluster = make()
    cluster.submit()
    cluster.take()
    late = TrialFailed(trial=0, reason=FailureReason.TIMEOUT, detail="longer than 1 s")
    cluster.driver._work_off(Kill(late))
    assert cluster.take(TrialFailed) == []
    stop = TrialFailed(trial=0, reason=FailureReason.NODE_LOST, detail="no worker had begun it")
    cluster.driver._work_off(Kill(stop))
    assert cluster.take(TrialFailed) == [stop]


def test_files_that_leave_the_folder_fail_the_trial_and_are_not_written(make, ray, tmp_path):
    cluster = make(workers=1)
    cluster.ready(ray.actors[0])
    cluster.submit()
    ray.actors[0].answer("next", (TrialStarted(trial=0, worker=0), {"../evil": b"x"}))
    (failed,) = cluster.take(TrialFailed)
    assert "leaves the trial's folder" in failed.detail
    assert not (tmp_path / "evil").exists()


def test_a_space_file_that_cannot_be_read_fails_its_trial_alone(make, ray, tmp_path):
    cluster = make(workers=1)
    cluster.ready(ray.actors[0])
    job = TrialJob(
        trial=0, study="s", space=f"{tmp_path}/gone.py:build", space_digest="", params={}, epochs=1,
        seed=0, folder=str(tmp_path / "t"),
    )  # fmt: skip
    cluster.driver._work_off(Submit(job))
    (failed,) = cluster.take(TrialFailed)
    assert failed.reason == FailureReason.CRASHED
    cluster.submit(1)
    assert len(ray.actors[0].given("begin")) == 1


def test_a_finished_trial_frees_its_slot_for_the_next(make, ray):
    cluster = make(workers=1)
    cluster.ready(ray.actors[0])
    cluster.submit(0)
    cluster.submit(1)
    ray.actors[0].answer("next", (finished(0, 1, 0.5), {}))
    assert len(cluster.take(TrialFinished)) == 1
    assert [given[0].trial for given in ray.actors[0].given("begin")] == [0, 1]
