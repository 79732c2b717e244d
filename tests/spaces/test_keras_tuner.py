"""The bridge, with KerasTuner's own classes on both ends."""

from __future__ import annotations

import sys
import warnings

import keras
import keras_tuner
import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lab.config import SweepConfig
from mnist_lab.errors import ConfigurationError, InvalidParamsError
from mnist_lab.spaces import Condition, get_space, search_space
from mnist_lab.spaces.keras_tuner import to_hypermodel
from mnist_lab.spaces.registry import as_space, load_space
from mnist_lab.spaces.survey import survey
from mnist_lab.sweep import launch


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
    return as_space(Handwritten, name="handwritten")


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


def asked_by(space, answers=(), shape=(28, 28)):
    """What a build asks for, when it is answered so (else with the default)."""
    asked = {}

    def ask(question):
        asked[question.name] = question
        return dict(answers).get(question.name, question.default)

    space.open(ask).build(shape, 10)
    return asked


def test_every_hp_call_becomes_a_distribution(handwritten):
    asked = asked_by(handwritten, {"kind": "conv", "deep": True})
    asked |= asked_by(handwritten)
    assert {name: each.distribution for name, each in asked.items()} == {
        "kind": CategoricalDistribution(("mlp", "conv")),
        "filters": IntDistribution(4, 16, step=4),
        "deep": CategoricalDistribution((False, True)),
        "more": IntDistribution(2, 8, log=True),
        "units": CategoricalDistribution((8, 16, 32, 64)),
        "dropout": FloatDistribution(0.0, 0.5, step=0.1),
        "classes": CategoricalDistribution((10,)),
        "rate": FloatDistribution(1e-4, 1e-2, log=True),
    }


def test_what_is_out_of_use_is_not_asked_for(handwritten):
    assert set(asked_by(handwritten)) == {"kind", "units", "dropout", "classes", "rate"}


def test_nested_scopes_come_with_the_question(handwritten):
    asked = asked_by(handwritten, {"kind": "conv", "deep": True})
    conv = ("kind", ("conv",))
    assert asked["more"].scope == (conv, ("deep", (True,)))
    assert asked["filters"].scope == (conv,)
    assert asked["dropout"].scope == ()


def test_the_defaults_are_kerastuners(handwritten):
    assert {name: each.default for name, each in asked_by(handwritten).items()} == {
        "kind": "mlp", "units": 8, "dropout": 0.0, "classes": 10, "rate": 1e-4,
    }  # fmt: skip


class Between(keras_tuner.HyperModel):
    def build(self, hp):
        hp.Int("units", 16, 100, step=16, default=30)
        hp.Int("to", 10, 95, step=20)
        hp.Float("rate", 0.0, 0.55, step=0.1, default=0.33)
        return Handwritten().build(hp)


def test_a_default_between_two_steps_becomes_the_nearest_of_them():
    asked = asked_by(as_space(Between, name="between"))
    assert (asked["units"].default, asked["rate"].default) == (32, 0.3)
    assert asked["to"].distribution == IntDistribution(10, 90, step=20)


def test_a_model_is_built_again_from_a_record(handwritten):
    record = {"kind": "conv", "filters": 8, "deep": True, "more": 3, "dropout": 0.1, "classes": 10}
    model = handwritten.build({**record, "rate": 1e-3}, (28, 28), 10)
    assert [layer.filters for layer in model.layers if hasattr(layer, "filters")] == [8, 3]


def test_a_record_that_lacks_a_parameter_is_refused_by_name(handwritten):
    with pytest.raises(InvalidParamsError, match="asks for units"):
        handwritten.build({"kind": "mlp"}, (28, 28), 10)


def test_the_space_that_is_asked_for_is_the_one_that_kerastuner_finds(strangers, tmp_path):
    space = load_space(f"{strangers}:Loops")
    theirs = set()
    tuner = keras_tuner.RandomSearch(
        sys.modules["mnist_lab_space_strangers"].Loops(),
        "val_accuracy",
        max_trials=30,
        directory=tmp_path,
        seed=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it asks for its thread's name
        for trial in range(30):
            hp = tuner.oracle.create_trial(str(trial)).hyperparameters
            tuner.hypermodel.build(hp)
            tuner.oracle.update_space(hp)
            theirs |= {each.name for each in tuner.oracle.get_space().space}
    ours = {each["name"] for each in survey(space, builds=30)["parameters"]}
    assert ours == theirs == {"num_layers", "units_0", "units_1", "units_2", "lr"}


def test_kerastuner_searches_a_space_that_asks(strangers, tmp_path):
    tuner = keras_tuner.RandomSearch(
        to_hypermodel(load_space(f"{strangers}:build")),
        objective="val_accuracy",
        max_trials=2,
        directory=tmp_path,
        seed=1,
    )
    images, labels = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner.search(
            images, labels.argmax(1), validation_data=(images, labels.argmax(1)), verbose=0
        )
    assert "n_layers" in tuner.oracle.get_best_trials(1)[0].hyperparameters.values


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


@pytest.mark.slow
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
