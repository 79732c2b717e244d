"""When a step multiplies in bfloat16, and that nothing but the step does."""

from __future__ import annotations

import keras
import pytest

from mnist_lab.errors import UnknownNameError
from mnist_lab.spaces import get_space
from mnist_lab.training import Checkpoint, Checkpoints, TrainingPlan, precision, train
from mnist_lab.training.fit import FitEngine
from mnist_lab.training.graph import GraphEngine
from mnist_lab.training.precision import choose_precision, has_amx, known_precision

OPTION = "auto_mixed_precision_onednn_bfloat16"


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


def test_dense_layers_alone_gain_little_and_stay_in_float32(machine):
    machine(amx=True)
    assert choose_precision(build("fnn", units_1=32, units_2=32)) == "float32"


@pytest.mark.only_by_default("True-bfloat16")
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


def test_an_unknown_precision_is_refused_with_those_there_are():
    with pytest.raises(UnknownNameError, match="Did you mean 'bfloat16'"):
        known_precision("bfloat")


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


def test_nothing_but_the_step_is_in_bfloat16(machine, small_dataset):
    import tensorflow as tf

    machine(wanted="bfloat16")
    engine, model, held_out = trained(small_dataset)
    assert not tf.config.optimizer.get_experimental_options()[OPTION]
    ours, keras_own = engine.validate(), FitEngine(model, held_out, batch_size=70).validate()
    assert ours["loss"] == pytest.approx(keras_own["loss"], rel=1e-6)


@pytest.mark.skipif(not has_amx(), reason="on which other CPUs TensorFlow does it was not tried")
def test_a_step_in_bfloat16_learns_the_same_but_not_to_the_digit(machine, small_dataset):
    losses = {}
    for wanted in ("float32", "bfloat16"):
        machine(wanted=wanted)
        losses[wanted] = trained(small_dataset)[0].validate()["loss"]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


@pytest.fixture
def train_on(machine, small_dataset, tmp_path):
    """Train up to so many epochs, from the checkpoint if there is one; the precision it was in."""

    def train_on(epochs, wanted):
        machine(wanted=wanted)
        plan = TrainingPlan(epochs=epochs, batch_size=100, seed=3)
        return train(
            small_cnn(),
            training=small_dataset.train,
            validation=small_dataset.validation,
            plan=plan,
            checkpoints=Checkpoints(tmp_path, "an identity"),
        ).precision

    return train_on


@pytest.mark.slow
def test_a_training_goes_on_in_the_precision_of_its_checkpoint(train_on):
    assert train_on(1, "bfloat16") == "bfloat16"
    assert train_on(2, "float32") == "bfloat16"


@pytest.mark.slow
def test_a_checkpoint_that_names_no_precision_was_trained_in_float32(train_on, tmp_path):
    train_on(1, "float32")
    kept = Checkpoints(tmp_path, "an identity")
    found = kept.load()
    state = {name: value for name, value in found.state.items() if name != "precision"}
    kept.save(Checkpoint(epoch=found.epoch, arrays=found.arrays, state=state))
    assert train_on(2, "bfloat16") == "float32"
