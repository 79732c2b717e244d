"""The bridge to KerasTuner, in both directions. Nothing else imports KerasTuner.

``to_hypermodel`` hands a ``SearchSpace`` to KerasTuner's tuners. ``open_hypermodel`` builds the models
of a hand-written ``HyperModel``, or of a function of ``hp``, as KerasTuner does: with an ``hp`` that
asks for each new parameter when the code comes to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
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
from mnist_lab.spaces.asking import Ask, AskingSpace
from mnist_lab.spaces.question import Question, answer_default
from mnist_lab.spaces.ranges import float_range, int_range, nearest
from mnist_lab.spaces.space import SearchSpace

if TYPE_CHECKING:
    import keras

# Usual argument names of hypermodels for the facts of the data. Image models need the channel.
CLASSES_ARGUMENTS = ("classes", "num_classes", "n_classes", "nb_classes")
SHAPE_ARGUMENTS = ("input_shape", "image_shape", "img_shape")


class SpaceHyperModel(keras_tuner.HyperModel):  # type: ignore[misc]
    """A ``SearchSpace`` as KerasTuner's hypermodel: pixels ``(N, *input_shape)`` in, one-hot labels."""

    def __init__(self, space: SearchSpace, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(name=space.id)
        self._space = space
        self._input_shape = input_shape
        self._classes = classes

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        if isinstance(self._space, AskingSpace):
            author = self._space.open(
                lambda asked: _declare(hp, asked.name, asked.distribution, asked.default)
            )
            return author.build(self._input_shape, self._classes)
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
    """Return a space as a hypermodel for ``RandomSearch``, ``Hyperband``, ``BayesianOptimization``."""
    return SpaceHyperModel(space, input_shape, classes)


def is_hypermodel(value: Any) -> bool:
    """Return whether ``value`` is a KerasTuner hypermodel, or a class of them."""
    return isinstance(value, keras_tuner.HyperModel) or (
        isinstance(value, type) and issubclass(value, keras_tuner.HyperModel)
    )


class AskingHyperParameters(keras_tuner.HyperParameters):  # type: ignore[misc]
    """KerasTuner's ``hp``, which asks for the value of each new and active parameter.

    All else is KerasTuner's: scopes, names, ``None`` for what is inactive, the first of two
    declarations of one name.
    """

    def __init__(self, ask: Ask = answer_default) -> None:
        super().__init__()
        self._ask = ask

    def _register(self, hyperparameter: Any, overwrite: bool = False) -> Any:
        hp = hyperparameter
        if self.is_active(hp) and hp.name not in self.values:
            self.values[hp.name] = self._ask(_question(hp))
        return super()._register(hp, overwrite)


class HyperModelAuthor:
    """The ``Author`` behind a ``HyperModel`` or a function of ``hp``.

    Every build and ``fit`` share one ``hp``, which asks for each parameter once.
    """

    def __init__(self, value: Any, ask: Ask, *, name: str) -> None:
        self._value = value
        self._name = name
        self._hp = AskingHyperParameters(ask)
        if not isinstance(value, type):
            self._hypermodel = keras_tuner.src.engine.hypermodel.get_hypermodel(value)

    def build(self, input_shape: tuple[int, ...], classes: int) -> keras.Model:
        """Build a model; a class is first instantiated with the facts of the data."""
        if isinstance(self._value, type):
            needed = _arguments(self._value, self._name)
            shape = input_shape if len(input_shape) == 3 else (*input_shape, 1)
            facts = {each: classes if each in CLASSES_ARGUMENTS else shape for each in needed}
            self._hypermodel = self._value(**facts)
        self._hypermodel.declare_hyperparameters(self._hp)
        return self._hypermodel.build(self._hp)

    @property
    def fit(self) -> Callable[..., Any] | None:
        kind: Any = self._value if isinstance(self._value, type) else type(self._hypermodel)
        if kind.fit is keras_tuner.HyperModel.fit:
            return None
        return lambda *args, **given: self._hypermodel.fit(self._hp, *args, **given)


def open_hypermodel(value: Any, ask: Ask, *, name: str) -> HyperModelAuthor:
    """Return the author behind a ``HyperModel`` (instance or class) or a function of ``hp``.

    A class is instantiated with the facts of the data (``CLASSES_ARGUMENTS``, ``SHAPE_ARGUMENTS``).

    Raises:
        ConfigurationError: the class needs arguments that only its author knows.
    """
    check_hypermodel(value, name=name)
    return HyperModelAuthor(value, ask, name=name)


def check_hypermodel(value: Any, *, name: str) -> None:
    """Raise ``ConfigurationError`` if a class of hypermodels cannot be made without its author."""
    if isinstance(value, type):
        _arguments(value, name)


def _arguments(cls: type, name: str) -> list[str]:
    """Return the arguments that the class needs, all of them facts of the data."""
    parameters = list(inspect.signature(cls).parameters.values())
    needed = [
        each.name
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    unknown = [each for each in needed if each not in (*CLASSES_ARGUMENTS, *SHAPE_ARGUMENTS)]
    if unknown:
        example = ", ".join(f"{each}=..." for each in needed)
        raise ConfigurationError(
            f"{name} needs {', '.join(unknown)}, which only its author knows.",
            next_step=f"Add the line: model = {cls.__name__}({example}) and give FILE.py:model.",
        )
    return needed


def _question(hp: Any) -> Question:
    distribution = _distribution(hp)
    return Question(
        name=str(hp.name),
        distribution=distribution,
        default=nearest(distribution, hp.default),
        scope=tuple((str(rule.name), tuple(rule.values)) for rule in hp.conditions),
    )


def _distribution(hp: Any) -> BaseDistribution:
    if isinstance(hp, hp_types.Fixed):
        return CategoricalDistribution((hp.value,))
    if isinstance(hp, hp_types.Boolean):
        return CategoricalDistribution((False, True))
    if isinstance(hp, hp_types.Choice):
        return CategoricalDistribution(tuple(hp.values))
    log = hp.sampling == "log"
    if hp.sampling != "linear" and hp.step:  # a factor here, which Optuna does not have
        kind = int if isinstance(hp, hp_types.Int) else float
        return CategoricalDistribution(tuple(kind(value) for value in hp.values))
    # A range that favours its upper end (``reverse_log``) is the same range; Optuna has no such scale.
    if isinstance(hp, hp_types.Int):
        return int_range(hp.min_value, hp.max_value, log=log, step=hp.step or 1)
    return float_range(hp.min_value, hp.max_value, log=log, step=hp.step)


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
