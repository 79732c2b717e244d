"""When a step multiplies in bfloat16, and that nothing but the step does."""

from __future__ import annotations

import keras
import pytest

from mnist_lab.spaces import get_space
from mnist_lab.training import precision
from mnist_lab.training.engine import FitEngine
from mnist_lab.training.graph import GraphEngine
from mnist_lab.training.precision import choose_precision, has_amx


@pytest.fixture(autouse=True)
def clear():
    yield
    keras.utils.clear_session()


@pytest.fixture
def machine(monkeypatch):
    """Pretend that this CPU has AMX or not, and that a precision was asked for."""

    def pretend(*, amx=True, gpu="-1", **asked):
        monkeypatch.setattr(precision, "has_amx", lambda: amx)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpu)
        monkeypatch.setenv("MNIST_LAB_PRECISION", asked.get("wanted", "auto"))

    return pretend


def build(space, **changes):
    keras.utils.set_random_seed(3)
    found = get_space(space)
    return found.build(found.point(changes), (28, 28), 10)


def small_cnn():
    return build("cnn", filters_1=8, dense_units=32, blocks=2, filters_2=16)


@pytest.mark.parametrize(
    ("line", "found"),
    [("flags : fpu avx512f amx_bf16 amx_tile", True), ("flags : fpu avx2 avx512_bf16", False)],
)
def test_amx_is_read_from_the_flags_of_the_cpu(tmp_path, line, found):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{line}\n")
    assert has_amx(tmp_path / "cpuinfo") is found


def test_a_machine_that_does_not_list_its_flags_has_no_amx(tmp_path):
    assert has_amx(tmp_path / "none") is False


def test_a_convolutional_network_trains_in_bfloat16_where_there_is_amx(machine):
    machine(amx=True)
    assert choose_precision(small_cnn()) == "bfloat16"


def test_without_amx_it_trains_in_float32(machine):
    machine(amx=False)
    assert choose_precision(small_cnn()) == "float32"


def test_dense_layers_alone_lose_accuracy_and_stay_in_float32(machine):
    machine(amx=True)
    assert choose_precision(build("fnn", units_1=32, units_2=32)) == "float32"


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
@pytest.mark.parametrize("amx", [True, False])
def test_what_was_asked_for_comes_first(machine, wanted, amx):
    machine(amx=amx, wanted=wanted)
    assert choose_precision(small_cnn()) == wanted


def test_a_gpu_has_no_such_pass(machine):
    machine(gpu="0", wanted="bfloat16")
    assert choose_precision(small_cnn()) == "float32"


def test_a_model_that_runs_eagerly_has_no_graph_to_change(machine):
    machine(wanted="bfloat16")
    model = small_cnn()
    model.run_eagerly = True
    assert choose_precision(model) == "float32"


def trained(dataset):
    """The engine of a small CNN after an epoch, and the model."""
    model = small_cnn()
    arrays = [
        (each.images, keras.utils.to_categorical(each.labels, 10))
        for each in (dataset.train, dataset.validation)
    ]
    engine = GraphEngine(model, arrays[1], batch_size=70)
    engine.train(*arrays[0])
    return engine, model, arrays[1]


def test_validation_is_in_float32_whatever_the_step_was_in(machine, small_dataset):
    machine(wanted="bfloat16")
    engine, model, held_out = trained(small_dataset)
    ours, keras_own = engine.validate(), FitEngine(model, held_out, batch_size=70).validate()
    assert ours["loss"] == pytest.approx(keras_own["loss"], rel=1e-6)
    assert {str(variable.dtype) for variable in model.weights} <= {"float32", "uint32"}


@pytest.mark.skipif(not has_amx(), reason="TensorFlow changes a graph only for a CPU that has AMX")
def test_a_step_in_bfloat16_learns_the_same_but_not_to_the_digit(machine, small_dataset):
    losses = {}
    for wanted in ("float32", "bfloat16"):
        machine(wanted=wanted)
        losses[wanted] = trained(small_dataset)[0].validate()["loss"]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
