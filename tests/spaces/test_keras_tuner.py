"""The bridge, with KerasTuner's own classes on both ends."""

from __future__ import annotations

import warnings

import keras
import keras_tuner
import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lab.errors import ConfigurationError
from mnist_lab.spaces import Condition, get_space, search_space
from mnist_lab.spaces.keras_tuner import from_hypermodel, to_hypermodel
from mnist_lab.sweep import SweepConfig, launch


class Handwritten(keras_tuner.HyperModel):
    """Every kind of hyperparameter, and a scope inside a scope."""

    def build(self, hp):
        layers = [keras.Input((28, 28, 1))]
        kind = hp.Choice("kind", ["mlp", "conv"])
        with hp.conditional_scope("kind", ["conv"]):
            if kind == "conv":
                layers.append(keras.layers.Conv2D(hp.Int("filters", 4, 16, step=4), 3))
            deep = hp.Boolean("deep")
            with hp.conditional_scope("deep", [True]):
                if deep:
                    layers.append(keras.layers.Conv2D(hp.Int("more", 2, 8, sampling="log"), 3))
        layers.append(keras.layers.Flatten())
        with hp.conditional_scope("kind", ["mlp"]):
            if kind == "mlp":
                units = hp.Int("units", 8, 64, step=2, sampling="log")
                layers.append(keras.layers.Dense(units, activation="relu"))
        layers.append(keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.1)))
        layers.append(keras.layers.Dense(hp.Fixed("classes", 10)))
        model = keras.Sequential(layers)
        model.compile(
            keras.optimizers.Adam(hp.Float("rate", 1e-4, 1e-2, sampling="log")),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        return model


@pytest.fixture(scope="module")
def handwritten():
    return from_hypermodel(Handwritten, name="handwritten")


def data(n=40):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, n)
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), keras.utils.to_categorical(labels, 10)


def search(tuner):
    images, labels = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # KerasTuner's own, of its protobuf and of reloading
        tuner.search(images, labels, validation_data=(images, labels), epochs=1, verbose=0)
    return tuner.oracle.get_best_trials(1)[0].hyperparameters.values


def test_kerastuners_random_search_runs_on_our_space(tmp_path):
    tuner = keras_tuner.RandomSearch(
        to_hypermodel(get_space("fnn")),
        objective="val_accuracy",
        max_trials=2,
        directory=tmp_path,
        seed=1,
    )
    values = search(tuner)
    get_space("fnn").check(values)
    assert ("units_3" in values) == (values["hidden_layers"] == 3)


def test_kerastuners_hyperband_runs_on_our_space(tmp_path):
    tuner = keras_tuner.Hyperband(
        to_hypermodel(get_space("fnn")),
        objective="val_accuracy",
        max_epochs=2,
        directory=tmp_path,
        seed=1,
    )
    values = search(tuner)
    space = get_space("fnn")
    space.check({name: value for name, value in values.items() if name in space.distributions})


def test_the_first_point_that_kerastuner_sees_is_our_baseline():
    hp = keras_tuner.HyperParameters()
    model = to_hypermodel(get_space("cnn")).build(hp)
    assert model.count_params() == 1_386_506
    assert hp.values == get_space("cnn").baseline


def test_our_batch_size_reaches_fit():
    hypermodel = to_hypermodel(get_space("fnn"))
    hp = keras_tuner.HyperParameters()
    model = hypermodel.build(hp)
    seen = {}
    model.fit = lambda *args, **kwargs: seen.update(kwargs)
    hypermodel.fit(hp, model)
    assert seen["batch_size"] == 100


def test_every_hp_call_becomes_a_distribution(handwritten):
    assert handwritten.distributions == {
        "kind": CategoricalDistribution(("mlp", "conv")),
        "filters": IntDistribution(4, 16, step=4),
        "deep": CategoricalDistribution((False, True)),
        "more": IntDistribution(2, 8, log=True),
        "units": CategoricalDistribution((8, 16, 32, 64)),
        "dropout": FloatDistribution(0.0, 0.5, step=0.1),
        "classes": CategoricalDistribution((10,)),
        "rate": FloatDistribution(1e-4, 1e-2, log=True),
    }


def test_nested_scopes_become_conditions(handwritten):
    conv = Condition(parent="kind", values=("conv",))
    assert handwritten.conditions["more"] == (conv, Condition(parent="deep", values=(True,)))
    assert handwritten.conditions["filters"] == (conv,)
    assert "dropout" not in handwritten.conditions


def test_the_defaults_are_kerastuners(handwritten):
    assert handwritten.baseline == {
        "kind": "mlp", "units": 8, "dropout": 0.0, "classes": 10, "rate": 1e-4,
    }  # fmt: skip


def test_a_handwritten_model_takes_raw_pixels_and_gives_probabilities(handwritten):
    params = handwritten.point({"kind": "conv", "deep": True, "filters": 8})
    model = handwritten.build(params, (28, 28), 10)
    assert [layer.filters for layer in model.layers[3].layers if hasattr(layer, "filters")] == [
        8,
        2,
    ]
    probabilities = model.predict(data()[0], verbose=0)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(40), abs=1e-5)


def test_a_handwritten_model_trains_on_one_hot_labels(handwritten):
    model = handwritten.build(handwritten.baseline, (28, 28), 10)
    history = model.fit(*data(), epochs=1, verbose=0).history
    assert {"loss", "accuracy"} <= set(history)


class TwoBranches(keras_tuner.HyperModel):
    """One name in two scopes, which KerasTuner tells apart by their conditions."""

    def build(self, hp):
        kind = hp.Choice("kind", ["small", "large"])
        with hp.conditional_scope("kind", ["small"]):
            small = hp.Int("units", 2, 4)
        with hp.conditional_scope("kind", ["large"]):
            large = hp.Int("units", 64, 128)
        units = small if kind == "small" else large
        model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten()])
        model.add(keras.layers.Dense(units))
        model.add(keras.layers.Dense(10, activation="softmax"))
        model.compile("adam", "sparse_categorical_crossentropy")
        return model


def test_one_name_in_two_scopes_becomes_two_parameters():
    space = from_hypermodel(TwoBranches(), name="branches")
    assert list(space.distributions) == ["kind", "units.kind.small", "units.kind.large"]
    model = space.build(space.point({"kind": "large", "units.kind.large": 100}), (28, 28), 10)
    assert model.layers[3].layers[1].units == 100


def test_mlflow_takes_the_names_of_such_parameters(client):
    space = from_hypermodel(TwoBranches(), name="branches")
    run = client.create_run(client.create_experiment("names")).info.run_id
    for name in space.distributions:
        client.log_param(run, name, 1)
    assert set(client.get_run(run).data.params) == set(space.distributions)


class ScopeBeforeItsDefault(keras_tuner.HyperModel):
    """The scope that the first build leaves out stands before the one it enters."""

    def build(self, hp):
        kind = hp.Choice("kind", ["cnn", "mlp"], default="mlp")
        with hp.conditional_scope("kind", ["cnn"]):
            if kind == "cnn":
                hp.Int("filters", 1, 4)
        with hp.conditional_scope("kind", ["mlp"]):
            drop = hp.Boolean("drop")
            with hp.conditional_scope("drop", [True]):
                if drop:
                    hp.Float("rate", 0.1, 0.5)
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        return model


def test_the_space_that_is_found_is_the_one_that_kerastuner_finds(tmp_path):
    tuner = keras_tuner.RandomSearch(
        ScopeBeforeItsDefault(), objective="val_accuracy", max_trials=1, directory=tmp_path
    )
    theirs = {hp.name for hp in tuner.oracle.get_space().space}
    assert set(from_hypermodel(ScopeBeforeItsDefault, name="s").distributions) == theirs
    assert "rate" in theirs


def test_a_model_written_without_an_input_layer_is_understood():
    space = from_hypermodel(ScopeBeforeItsDefault, name="s")
    assert space.build(space.baseline, (28, 28), 10).output_shape == (None, 10)


def make_chain(**changes):
    declaration = {
        "name": "chain",
        "version": 1,
        "description": "c needs b, and b needs a",
        "distributions": {
            "a": CategoricalDistribution((False, True)),
            "b": CategoricalDistribution((False, True)),
            "c": IntDistribution(1, 4),
            "fixed": CategoricalDistribution((True,)),
        },
        "defaults": {"a": False, "b": False, "c": 2, "fixed": True},
        "conditions": {
            "b": (Condition(parent="a", values=(True,)),),
            "c": (Condition(parent="b", values=(True,)),),
        },
    }
    seen = []
    space = search_space(**{**declaration, **changes})(lambda params, *_: seen.append(params))
    return space, seen


def test_a_chain_of_conditions_is_declared_to_kerastuner():
    space, seen = make_chain()
    hp = keras_tuner.HyperParameters()
    hp.values = {"a": True, "b": True, "c": 3}
    to_hypermodel(space).build(hp)
    assert seen == [{"a": True, "b": True, "c": 3, "fixed": True}]
    assert len(hp.space) == 4


def test_a_choice_of_none_is_refused_by_name():
    none = {"a": CategoricalDistribution((None, 1))}
    space, _ = make_chain(distributions=none, defaults={"a": 1}, conditions={})
    with pytest.raises(ConfigurationError, match="a can be None"):
        to_hypermodel(space).build(keras_tuner.HyperParameters())


class WithFit(Handwritten):
    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, batch_size=hp.Int("batch", 8, 64), **kwargs)


def test_a_hypermodel_that_overrides_fit_is_refused():
    with pytest.raises(ConfigurationError, match=r"overrides HyperModel\.fit"):
        from_hypermodel(WithFit, name="fit")


class ThreeClasses(keras_tuner.HyperModel):
    def build(self, hp):
        layers = [keras.Input((28, 28)), keras.layers.Flatten()]
        model = keras.Sequential([*layers, keras.layers.Dense(3, activation="softmax")])
        model.compile(hp.Choice("optimizer", ["adam", "sgd"]), "sparse_categorical_crossentropy")
        return model


def test_a_hypermodel_of_another_number_of_classes_is_refused():
    space = from_hypermodel(ThreeClasses, name="three")
    with pytest.raises(ConfigurationError, match=r"not \(N, 10\)"):
        space.build(space.baseline, (28, 28), 10)


HYPERMODEL_FILE = """
import keras, keras_tuner

class Small(keras_tuner.HyperModel):
    def build(self, hp):
        layers = [keras.Input((28, 28, 1)), keras.layers.Flatten()]
        if hp.Boolean("hidden", default=True):
            with hp.conditional_scope("hidden", [True]):
                layers.append(keras.layers.Dense(hp.Int("units", 8, 32), activation="relu"))
        layers.append(keras.layers.Dense(10, activation="softmax"))
        model = keras.Sequential(layers)
        model.compile(hp.Choice("optimizer", ["adam", "sgd"]), "sparse_categorical_crossentropy")
        return model
"""


def test_a_handwritten_hypermodel_in_a_file_is_swept_with_real_keras(settings, client, small_file):
    (settings.root / "hyper.py").write_text(HYPERMODEL_FILE)
    config = SweepConfig(
        space="hyper.py:Small", trials=3, epochs=1, dataset=str(small_file), study="kt", workers=1
    )
    result = launch(config, settings)
    assert (result.finished, result.reasons) == (3, {})
    experiment = client.get_experiment_by_name("mnist-lab/tiny-Small")
    runs = client.search_runs([experiment.experiment_id], "tags.`mnist_lab.level` = 'trial'")
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    for run in runs:
        assert ("units" in run.data.params) == (run.data.params["hidden"] == "True")
