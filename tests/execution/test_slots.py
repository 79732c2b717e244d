"""Slots on other machines, without Ray: how a cluster is shared, what a slot does, why one is lost."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from mnist_lab.errors import ConfigurationError, MissingExtraError, UnknownNameError, UsageError
from mnist_lab.execution import (
    ExecutorSpec,
    FailureReason,
    make_executor,
    ray_cluster,
    require_executor,
)
from mnist_lab.execution import make as making
from mnist_lab.execution import slot as slots
from mnist_lab.execution.messages import Decision, EpochFinished, TrialFinished, TrialJob
from mnist_lab.execution.ray_cluster import (
    Node,
    count_slots,
    explain_loss,
    plan_slots,
    require_alike,
)
from mnist_lab.execution.ray_messages import DriverSpec
from mnist_lab.execution.resources import Gpu
from mnist_lab.execution.slot import Slot, SlotFacts, SlotSpec, find_versions


def driver(**changes):
    fields = {
        "address": "auto",
        "workers": None,
        "device": None,
        "workers_per_gpu": 1,
        "at_most": 50,
        "precision": None,
        "threads": None,
        "trainer": "fakes:run_trial",
        "dataset": "data",
        "log": "log",
    }
    return DriverSpec(**{**fields, **changes})


def slot_spec(**changes):
    fields = {
        "index": 0,
        "threads": 1,
        "gpu_share": 0.0,
        "backend": "none",
        "precision": None,
        "trainer": "fakes:run_trial",
    }
    return SlotSpec(**{**fields, **changes})


CPUS = [Node(cpus=0, gpus=0), Node(cpus=4, gpus=0), Node(cpus=8, gpus=0)]
GPUS = [*CPUS, Node(cpus=16, gpus=2)]


@pytest.mark.parametrize(
    ("nodes", "asked", "planned"),
    [
        (CPUS, {}, (0.0, 1, 12)),
        (CPUS, {"at_most": 3}, (0.0, 2, 3)),
        (CPUS, {"workers": 2}, (0.0, 4, 2)),
        (CPUS, {"workers": 40, "at_most": 100}, (0.0, 1, 40)),
        (CPUS, {"workers": 2, "threads": 3}, (0.0, 3, 2)),
        (GPUS, {}, (1.0, 8, 2)),
        (GPUS, {"workers_per_gpu": 4}, (0.25, 2, 8)),
        (GPUS, {"device": "cpu"}, (0.0, 1, 28)),
        (CPUS, {"device": "gpu", "workers": 4}, (1.0, 1, 4)),  # nodes with GPUs may come
        ([], {"workers": 4}, (0.0, 1, 4)),
    ],
)
def test_a_cluster_is_shared_by_its_gpus_else_by_its_cpus(nodes, asked, planned):
    plan = plan_slots(nodes, driver(**asked))
    assert (plan.share, plan.threads, plan.count) == planned


@pytest.mark.parametrize(
    ("nodes", "asked", "said"),
    [
        ([], {}, "--workers N"),
        (CPUS, {"device": "gpu"}, "no GPU now"),
        (GPUS, {"device": "gpu:0"}, "one machine's"),
    ],
)
def test_what_a_cluster_does_not_have_is_said(nodes, asked, said):
    with pytest.raises(ConfigurationError, match=said):
        plan_slots(nodes, driver(**asked))


class ActorDiedError(Exception):
    pass


class ActorUnavailableError(Exception):
    pass


class OutOfMemoryError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ActorDiedError("The worker process has died."), FailureReason.CRASHED),
        (ActorDiedError("its node has died"), FailureReason.NODE_LOST),
        (ActorDiedError("missing too many heartbeats"), FailureReason.NODE_LOST),
        (ActorUnavailableError("Socket closed"), FailureReason.NODE_LOST),
        (OutOfMemoryError("killed"), FailureReason.OUT_OF_MEMORY),
        (ActorDiedError("killed by the memory monitor"), FailureReason.OUT_OF_MEMORY),
        (ValueError("of the trainer"), FailureReason.CRASHED),
    ],
)
def test_why_an_actor_was_lost_is_read_from_rays_error(error, reason):
    found, detail = explain_loss(error, "host, process 7")
    assert found == reason
    assert "host, process 7" in detail


def test_a_node_with_other_versions_is_refused_by_name_with_the_command_to_type_there():
    facts = SlotFacts(
        host="lab-7", pid=1, device="cpu", versions={**find_versions(), "keras": "2.0"}
    )
    with pytest.raises(ConfigurationError) as error:
        require_alike(facts)
    here = find_versions()["keras"]
    assert "lab-7 has other versions: keras 2.0" in str(error.value)
    assert f"pip install 'keras=={here}'" in str(error.value)


def test_versions_that_differ_within_pythons_minor_version_are_alike():
    facts = SlotFacts(host="lab-7", pid=1, device="cpu", versions=find_versions())
    assert facts.versions["python"].count(".") == 1
    require_alike(facts)


@pytest.fixture
def environment(monkeypatch):
    """The variables of this process, put back afterwards."""
    before = dict(os.environ)
    yield monkeypatch
    os.environ.clear()
    os.environ.update(before)


def test_a_slot_trains_and_sends_each_checkpoint_once(small_dataset, tmp_path, environment):
    environment.setattr(slots.tempfile, "gettempdir", lambda: str(tmp_path))
    job = TrialJob(
        trial=3, study="s", space="fnn", space_digest="", params={}, epochs=3, seed=0, folder="x"
    )
    slot = Slot(slot_spec(), small_dataset)
    assert slot.hello().pid == os.getpid()
    slot.begin(job, {}, {})
    answers = [slot.next()]  # it has started
    answers.append(slot.next())
    while not isinstance(answers[-1][0], TrialFinished):
        answers.append(slot.next(Decision.GO_ON))
    sent = [sorted(files) for event, files in answers if isinstance(event, EpochFinished)]
    assert [{name.split("/")[1] for name in names} for names in sent] == [
        {"epoch-0001"},
        {"epoch-0002"},
        {"epoch-0003"},
    ]
    assert "model.keras" in answers[-1][1]


def test_a_slot_goes_on_from_the_checkpoints_that_come_with_the_job(
    small_dataset, tmp_path, environment
):
    environment.setattr(slots.tempfile, "gettempdir", lambda: str(tmp_path))
    job = TrialJob(
        trial=3, study="s", space="fnn", space_digest="", params={}, epochs=2, seed=0, folder="x"
    )
    first, second = (Slot(slot_spec(), small_dataset) for _ in range(2))
    first.begin(job, {}, {})
    first.next()
    _, files = first.next()
    second._folder = tmp_path / "another machine"
    second.begin(job, files, {})
    second.next()
    event, news = second.next()
    assert [each.epoch for each in event.epochs] == [1]
    assert news == {}  # the supervisor has it


@pytest.mark.parametrize(
    ("share", "limit"), [(1.0, None), (0.5, int(40_000 * 0.9 * 0.5)), (0.25, 9_000)]
)
def test_a_part_of_a_gpu_has_a_hard_limit_of_its_memory(share, limit, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(slots, "find_gpus", lambda: (Gpu(index="1", memory_mb=40_000),))
    runtime = slots._runtime(slot_spec(gpu_share=share))
    assert (runtime.gpu, runtime.gpu_memory_mb) == ("1", limit)


def test_a_slot_without_a_gpu_sees_none_of_its_node(monkeypatch):
    monkeypatch.setattr(slots, "find_gpus", lambda: (Gpu(index="0", memory_mb=40_000),))
    assert slots._runtime(slot_spec()).gpu is None


def test_the_folders_of_killed_slots_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(slots.tempfile, "gettempdir", lambda: str(tmp_path))
    mine = slots._make_scratch()
    left, alive = mine.with_name("999999999"), mine.with_name("1")
    left.mkdir()
    alive.mkdir()
    slots._make_scratch()
    assert not left.exists()
    assert alive.exists()


def test_a_folder_that_others_may_write_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(slots.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(slots.tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"{slots.SCRATCH}-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    assert not slots._make_scratch().is_relative_to(planted)


def test_a_gpu_that_cannot_be_divided_is_not_shared(monkeypatch):
    monkeypatch.setattr(slots, "find_gpus", lambda: ())
    with pytest.raises(RuntimeError, match="could not be divided"):
        slots._runtime(slot_spec(gpu_share=0.5))


def test_slots_are_counted_by_what_they_were_planned_for():
    spec = driver(workers_per_gpu=2)
    assert count_slots(GPUS, spec, 0.5) == 4
    assert count_slots(CPUS, spec, 0.5) == 0  # the node with GPUs is gone: nothing is added
    assert count_slots([*CPUS, *GPUS], driver(at_most=20), 0.0) == 20


def test_more_threads_than_any_node_has_are_refused():
    with pytest.raises(ConfigurationError, match="has 16 CPUs"):
        plan_slots(CPUS, driver(threads=16))


# Executors by name


@pytest.fixture
def spec(tmp_path):
    return ExecutorSpec(at_most=1, dataset=tmp_path / "data", work=tmp_path)


def test_a_name_that_is_no_executor_is_refused_with_the_known_ones(spec):
    with pytest.raises(UnknownNameError, match="local, inline, ray"):
        make_executor("slurm", spec)


@pytest.mark.parametrize("name", ["head:6379", "10.0.0.7:6379", "ray://head:10001"])
def test_an_address_is_a_cluster(name, spec):
    assert make_executor(name, spec)._spec.address == name


def test_the_environment_names_the_cluster_of_ray(spec, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert make_executor("ray", spec)._spec.address == "head:6379"


def test_a_cluster_without_ray_says_what_to_install(spec, monkeypatch):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"mnist-lab\[ray\]"):
        require_executor("ray", spec)


def test_a_limit_of_memory_is_refused_where_it_would_not_be_kept(spec, tmp_path):
    limited = ExecutorSpec(at_most=1, dataset=tmp_path, work=tmp_path, worker_memory=1000)
    with pytest.raises(ConfigurationError, match="worker_memory"):
        make_executor("ray", limited)


def test_a_device_that_is_not_here_is_said_before_anything_is_loaded(tmp_path):
    with pytest.raises(UsageError, match="gpu:7"):
        require_executor(
            "local", ExecutorSpec(at_most=1, dataset=tmp_path, work=tmp_path, device="gpu:7")
        )


def test_another_packages_executor_is_found_by_its_entry_point(spec, monkeypatch):
    made = SimpleNamespace()
    entry = SimpleNamespace(name="mine", load=lambda: lambda given: made if given is spec else None)
    monkeypatch.setattr(making, "entry_points", lambda group: [entry])
    assert make_executor("mine", spec) is made
    require_executor("mine", spec)
