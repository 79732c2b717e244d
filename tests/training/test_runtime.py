"""The decisions of the runtime, with a TensorFlow that only writes down what it is told."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from mnist_lab.training.runtime import Runtime, configure, environment


class FakeConfig:
    def __init__(self, gpus):
        self.gpus = gpus
        self.told = []
        self.threading = SimpleNamespace(
            set_intra_op_parallelism_threads=lambda n: self.told.append(("intra", n)),
            set_inter_op_parallelism_threads=lambda n: self.told.append(("inter", n)),
        )
        self.experimental = SimpleNamespace(
            set_memory_growth=lambda gpu, enable: self.told.append(("growth", gpu, enable))
        )

    def list_physical_devices(self, kind):
        assert kind == "GPU"
        return self.gpus

    def LogicalDeviceConfiguration(self, memory_limit):
        return memory_limit

    def set_logical_device_configuration(self, gpu, limits):
        self.told.append(("limit", gpu, limits))


@pytest.fixture
def tensorflow(monkeypatch):
    def pretend(*gpus):
        config = FakeConfig(gpus)
        monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
        return config

    monkeypatch.setattr("os.environ", dict(__import__("os").environ))
    return pretend


def test_a_cpu_worker_sees_no_gpu():
    assert environment(Runtime(threads=1))["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_gpu_worker_sees_its_own_gpu_only():
    assert environment(Runtime(threads=1, gpu="3"))["CUDA_VISIBLE_DEVICES"] == "3"


def test_the_threads_are_those_of_its_share(tensorflow):
    config = tensorflow()
    configure(Runtime(threads=2))
    assert config.told == [("intra", 2), ("inter", 1)]


def test_a_gpu_of_its_own_grows_its_memory(tensorflow):
    config = tensorflow("gpu0")
    configure(Runtime(threads=1, gpu="0"))
    assert ("growth", "gpu0", True) in config.told


def test_a_shared_gpu_has_a_hard_memory_limit(tensorflow):
    config = tensorflow("gpu0")
    configure(Runtime(threads=1, gpu="0", gpu_memory_mb=4000))
    assert ("limit", "gpu0", [4000]) in config.told


def test_a_gpu_that_tensorflow_does_not_see_is_an_error_and_not_a_slow_surprise(tensorflow):
    tensorflow()
    with pytest.raises(RuntimeError, match=r"mnist-lab\[gpu\].*--device cpu"):
        configure(Runtime(threads=1, gpu="0"))


def test_gpus_are_counted_as_nvidia_smi_counts_them():
    assert environment(Runtime(threads=1, gpu="1"))["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_another_backend_is_left_alone(tensorflow, monkeypatch):
    config = tensorflow("gpu0")
    monkeypatch.setitem(__import__("os").environ, "KERAS_BACKEND", "jax")
    configure(Runtime(threads=1, gpu="0"))
    assert config.told == []


def test_jax_takes_of_a_gpu_what_it_needs_unless_told_otherwise(monkeypatch):
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    assert environment(Runtime(threads=1, gpu="0"))[name] == "false"
    monkeypatch.setenv(name, "true")
    assert environment(Runtime(threads=1, gpu="0"))[name] == "true"
