from __future__ import annotations

import stat

import pytest

from mnist_lab.errors import UsageError
from mnist_lab.execution import plan_workers
from mnist_lab.execution.resources import Gpu, find_gpus, usable_cores
from mnist_lab.training import Runtime

TWO_ROWS = "echo '0, GPU-aa11, 24000'; echo '1, GPU-bb22, 24000'"
TWO_GPUS = (Gpu(index="0", memory_mb=24_000), Gpu(index="1", memory_mb=24_000))


def test_without_a_gpu_there_is_one_single_thread_worker_a_core():
    assert plan_workers(cores=2, gpus=()) == (Runtime(threads=1), Runtime(threads=1))


def test_fewer_workers_share_the_cores_as_threads():
    assert plan_workers(workers=1, cores=4, gpus=()) == (Runtime(threads=4),)


def test_more_workers_than_cores_have_one_thread_each():
    assert plan_workers(workers=3, cores=2, gpus=()) == (Runtime(threads=1),) * 3


def test_no_more_workers_are_planned_than_have_something_to_do():
    assert plan_workers(cores=8, gpus=(), at_most=1) == (Runtime(threads=8),)


def test_nothing_to_do_still_plans_one_worker():
    assert len(plan_workers(cores=2, gpus=(), at_most=0)) == 1


def test_each_gpu_has_a_worker_that_grows_its_memory():
    planned = plan_workers(cores=8, gpus=TWO_GPUS)
    assert planned == (Runtime(threads=4, gpu="0"), Runtime(threads=4, gpu="1"))


def test_workers_that_share_a_gpu_have_a_limit_each():
    planned = plan_workers(cores=8, gpus=TWO_GPUS, workers_per_gpu=2)
    assert [worker.gpu for worker in planned] == ["0", "1", "0", "1"]
    assert {worker.gpu_memory_mb for worker in planned} == {10_800}


def test_a_chosen_gpu_is_the_only_one_used():
    assert [w.gpu for w in plan_workers(device="gpu:1", cores=8, gpus=TWO_GPUS)] == ["1"]


def test_the_cpu_can_be_chosen_on_a_machine_with_gpus():
    assert plan_workers(device="cpu", cores=2, gpus=TWO_GPUS) == (Runtime(threads=1),) * 2


@pytest.mark.parametrize("device", ["gpu", "gpu:2", "tpu", "cpu:0"])
def test_a_device_that_is_not_there_is_refused(device):
    gpus = () if device == "gpu" else TWO_GPUS
    with pytest.raises(UsageError, match=r"[dD]evice"):
        plan_workers(device=device, cores=2, gpus=gpus)


@pytest.mark.parametrize("numbers", [{"workers": 0}, {"workers_per_gpu": 0}])
def test_less_than_one_worker_is_refused(numbers):
    with pytest.raises(UsageError, match="At least one worker"):
        plan_workers(cores=2, gpus=(), **numbers)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A command of that name that prints what the real one would."""

    def install(script):
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


def test_gpus_are_read_from_nvidia_smi(nvidia_smi):
    nvidia_smi(TWO_ROWS)
    assert find_gpus() == TWO_GPUS


@pytest.mark.parametrize("visible", ["1", " 1 ", "GPU-bb"])
def test_gpus_that_the_environment_hides_are_not_found(nvidia_smi, monkeypatch, visible):
    nvidia_smi(TWO_ROWS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpus() == TWO_GPUS[1:]


def test_a_gpu_whose_memory_is_unknown_is_left_alone(nvidia_smi):
    nvidia_smi("echo '0, GPU-aa, [N/A]'; echo '1, GPU-bb, 24000'")
    assert find_gpus() == TWO_GPUS[1:]


def test_no_more_than_eight_workers_are_the_default():
    assert plan_workers(cores=64, gpus=()) == (Runtime(threads=8),) * 8


@pytest.mark.parametrize("script", ["exit 9"])
def test_a_broken_driver_is_no_gpu(nvidia_smi, script):
    nvidia_smi(script)
    assert find_gpus() == ()


def test_without_nvidia_smi_there_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == ()


def test_there_is_at_least_one_core():
    assert usable_cores() >= 1


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 6), ("250000 100000", 2), ("50000 100000", 1)]
)
def test_a_quota_of_the_cores_time_counts_as_so_many_cores(monkeypatch, tmp_path, limit, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr("mnist_lab.execution.resources.CGROUP", tmp_path)
    assert usable_cores() == 6
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores() == cores
