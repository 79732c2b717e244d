"""The bridge to KerasTuner, in both directions (DESIGN D4). Nothing else imports KerasTuner.

``to_hypermodel`` hands one of our spaces to KerasTuner's tuners. ``from_hypermodel`` turns a
hand-written ``HyperModel`` into a space: it is built again and again, as KerasTuner's own tuner does,
until every conditional scope has been entered once, and its ``hp.*`` calls become distributions.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import keras_tuner
from keras_tuner.engine import hyperparameters as hp_types
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mnist_lab.errors import ConfigurationError
from mnist_lab.spaces.space import Condition, Params, SearchSpace

if TYPE_CHECKING:
    import keras


class SpaceHyperModel(keras_tuner.HyperModel):  # type: ignore[misc]
    """One of our spaces as KerasTuner sees it: takes pixels ``(N, 28, 28)`` and one-hot labels."""

    def __init__(self, space: SearchSpace, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(name=space.id)
        self._space = space
        self._input_shape = input_shape
        self._classes = classes

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        params: dict[str, Any] = {}
        for name, distribution in self._space.distributions.items():
            with ExitStack() as scopes:
                self._enter_scopes(name, hp, scopes)
                value = _declare(hp, name, distribution, self._space.defaults[name])
            if self._space.is_active(name, params):
                params[name] = value
        return self._space.build(params, self._input_shape, self._classes)

    def _enter_scopes(self, name: str, hp: keras_tuner.HyperParameters, scopes: ExitStack) -> None:
        # KerasTuner finds a parent only inside the scopes that the parent itself was declared in.
        for rule in self._space.conditions.get(name, ()):
            self._enter_scopes(rule.parent, hp, scopes)
            scopes.enter_context(hp.conditional_scope(rule.parent, list(rule.values)))

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any
    ) -> Any:
        if "batch_size" in self._space.distributions:
            kwargs.setdefault("batch_size", hp.get("batch_size"))
        return model.fit(*args, **kwargs)


def to_hypermodel(
    space: SearchSpace, *, input_shape: tuple[int, ...] = (28, 28), classes: int = 10
) -> keras_tuner.HyperModel:
    """A registered space for ``keras_tuner.RandomSearch``, ``Hyperband``, ``BayesianOptimization``."""
    return SpaceHyperModel(space, input_shape, classes)


def is_hypermodel(value: Any) -> bool:
    """Whether ``value`` is a KerasTuner hypermodel, or a class of them."""
    return isinstance(value, keras_tuner.HyperModel) or (
        isinstance(value, type) and issubclass(value, keras_tuner.HyperModel)
    )


def from_hypermodel(
    hypermodel: Any, *, name: str, version: int = 1, source: str = ""
) -> SearchSpace:
    """A KerasTuner ``HyperModel`` (instance or class) as a space.

    Its models may take ``(28, 28)`` or ``(28, 28, 1)`` and are fed floats in [0, 1]; integer or
    one-hot labels and a final layer of logits are all understood.

    Raises:
        ConfigurationError: it overrides ``fit`` (its ``hp`` calls cannot be seen before training).
    """
    hypermodel = hypermodel() if isinstance(hypermodel, type) else hypermodel
    if type(hypermodel).fit is not keras_tuner.HyperModel.fit:
        raise ConfigurationError(
            f"{name} overrides HyperModel.fit, whose hyperparameters are not known before training.",
            next_step="Move its hp calls into build.",
        )
    declared = _explore(hypermodel)
    keys = {id(hp): _key(hp, declared) for hp in declared}

    def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
        hp = keras_tuner.HyperParameters()
        hp.values = {
            each.name: params[keys[id(each)]] for each in declared if keys[id(each)] in params
        }
        return _on_raw_pixels(hypermodel.build(hp), input_shape, classes)

    return SearchSpace(
        name=name,
        version=version,
        description=f"KerasTuner hypermodel {type(hypermodel).__name__}",
        distributions={keys[id(hp)]: _distribution(hp) for hp in declared},
        defaults={keys[id(hp)]: hp.default for hp in declared},
        conditions={
            keys[id(hp)]: tuple(
                Condition(parent=rule.name, values=tuple(rule.values)) for rule in hp.conditions
            )
            for hp in declared
            if hp.conditions
        },
        source=source,
        build=build,
    )


def _explore(hypermodel: keras_tuner.HyperModel) -> list[Any]:
    """Build until every conditional scope was active once; parents come before their children."""
    space = keras_tuner.HyperParameters()
    entered: list[Any] = []
    waiting: list[Any] = []  # scopes seen, in any build so far, that none has entered
    trial = keras_tuner.HyperParameters()
    while True:
        hypermodel.build(trial)
        space.merge(trial, overwrite=False)
        entered += [scope for scope in trial.active_scopes if scope not in entered]
        waiting += [scope for scope in trial.inactive_scopes if scope not in waiting]
        waiting = [scope for scope in waiting if scope not in entered]
        if not waiting:
            return list(space.space)
        trial = space.copy()
        for rule in waiting[0]:
            trial.values[rule.name] = rule.values[0]
        entered.append(waiting[0])
        trial.ensure_active_values()


def _key(hp: Any, declared: list[Any]) -> str:
    # KerasTuner tells parameters apart by name *and* conditions; ours have one name each.
    if sum(other.name == hp.name for other in declared) == 1 or not hp.conditions:
        return str(hp.name)
    rule = hp.conditions[-1]
    # Dots, because MLflow takes neither @ nor = in the name of a parameter.
    return ".".join([hp.name, rule.name, *map(str, rule.values)])


def _distribution(hp: Any) -> BaseDistribution:
    if isinstance(hp, hp_types.Fixed):
        return CategoricalDistribution((hp.value,))
    if isinstance(hp, hp_types.Boolean):
        return CategoricalDistribution((False, True))
    if isinstance(hp, hp_types.Choice):
        return CategoricalDistribution(tuple(hp.values))
    log = hp.sampling == "log"
    if log and hp.step:  # KerasTuner's step is a factor here, which Optuna has no word for
        return CategoricalDistribution(tuple(hp.values))
    if isinstance(hp, hp_types.Int):
        return IntDistribution(hp.min_value, hp.max_value, log=log, step=hp.step or 1)
    return FloatDistribution(hp.min_value, hp.max_value, log=log, step=hp.step)


def _declare(
    hp: keras_tuner.HyperParameters, name: str, distribution: BaseDistribution, default: Any
) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        if None in distribution.choices:
            raise ConfigurationError(f"{name} can be None, which KerasTuner cannot choose.")
        if len(distribution.choices) == 1:
            return hp.Fixed(name, distribution.choices[0])
        if all(isinstance(choice, bool) for choice in distribution.choices):
            return hp.Boolean(name, default=default)
        return hp.Choice(name, list(distribution.choices), default=default)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    declare = hp.Int if isinstance(distribution, IntDistribution) else hp.Float
    return declare(
        name,
        distribution.low,
        distribution.high,
        step=None if distribution.log else distribution.step,
        sampling="log" if distribution.log else "linear",
        default=default,
    )


def _on_raw_pixels(inner: keras.Model, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Put a hand-written model behind our interface: raw pixels in, probabilities out, compiled."""
    import keras

    if not inner.built:  # written without an Input, as KerasTuner's own examples are
        inner.build((None, *input_shape))
    pixels = keras.Input(input_shape, dtype="uint8", name="pixels")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = inner(keras.layers.Reshape(inner.input_shape[1:])(x))
    if getattr(inner.loss, "from_logits", False):
        x = keras.layers.Softmax()(x)
    if x.shape[-1] != classes:
        raise ConfigurationError(
            f"The hypermodel's output has shape {x.shape}, not (N, {classes})."
        )
    model = keras.Model(pixels, x, name=inner.name)
    model.compile(optimizer=inner.optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    return model
