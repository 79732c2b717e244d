"""``AskingSpace``: a search space that is known only by what ``build`` asks for while it runs.

A declared space lists its parameters beforehand. Code in KerasTuner's or Optuna's words does not:
loops, branches and names made at run time decide what is asked for. So each call is a ``Question``,
answered by whoever runs the build: the study's sampler, a record, or the defaults.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mnist_lab.errors import ConfigurationError, InvalidParamsError
from mnist_lab.spaces.space import (
    Params,
    ParamValue,
    SearchSpace,
    contains,
    describe_range,
    fit_value,
)

if TYPE_CHECKING:
    import keras


LONGEST_NAME = 200  # of a parameter that had to be given a longer name than its own


@dataclass(frozen=True, kw_only=True)
class Question:
    """One parameter that a build asks for.

    ``scope`` has the conditional scopes that it is asked in, outermost first, as (parent, values).
    """

    name: str
    distribution: BaseDistribution
    default: ParamValue
    scope: tuple[tuple[str, tuple[ParamValue, ...]], ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.distribution, CategoricalDistribution):
            for choice in self.distribution.choices:
                if not _is_plain(choice):
                    raise ConfigurationError(
                        f"{self.name} has the choice {choice!r}, which no study can record.",
                        next_step="Choose among texts or numbers, and look the object up by them.",
                    )

    @property
    def kind(self) -> str:
        """What Optuna does not let change under one name: choices, or the type of number and scale."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return "|".join(str(choice) for choice in distribution.choices)
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        kind = "int" if isinstance(distribution, IntDistribution) else "float"
        return f"{kind}-log" if distribution.log else kind

    @property
    def identity(self) -> str:
        """Two questions of one identity are the same parameter."""
        return json.dumps([self.name, self.scope, self.kind], default=str)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names that the parameter may have in a study, the plainest first."""
        scope = ".".join(f"{parent}.{'|'.join(map(str, values))}" for parent, values in self.scope)
        scoped = f"{self.name}.{scope}" if scope else self.name
        longer = (scoped, f"{self.name}.{self.kind}", f"{scoped}.{self.kind}")
        return tuple(dict.fromkeys((self.name, *(_shortened(key, self.name) for key in longer))))

    def find(self, params: Params) -> str | None:
        """The name that the parameter has in ``params``, if it is there: the most particular one."""
        return next((key for key in reversed(self.keys) if key in params), None)


def _is_plain(choice: object) -> bool:
    if isinstance(choice, tuple | list):
        return all(map(_is_plain, choice))
    return choice is None or type(choice) in (bool, int, float, str)


def _shortened(key: str, name: str) -> str:
    """``key``, or ``name`` with its digest: a database takes 512 characters, a table fewer."""
    if len(key) <= LONGEST_NAME:
        return key
    return f"{name}.{hashlib.sha256(key.encode()).hexdigest()[:8]}"


Ask = Callable[[Question], ParamValue]


def answer_default(question: Question) -> ParamValue:
    """Answer with the author's default."""
    return question.default


class Names:
    """The names of a study's parameters: a name belongs to the first parameter that asks for it.

    ``taken`` maps names to identities. KerasTuner tells parameters apart by name and scope, Optuna by
    name alone; so a second parameter of the same name gets a longer one.
    """

    def __init__(self, taken: Mapping[str, str]) -> None:
        self.taken = dict(taken)
        self._names = {identity: name for name, identity in self.taken.items()}

    def key(self, question: Question, known: Params) -> str:
        """The name of ``question``; a new one is the one that it has in ``known``, else a free one."""
        identity = question.identity
        if identity not in self._names:
            free = [key for key in question.keys if key not in self.taken] or [identity]
            name = question.find({key: None for key in free if key in known}) or free[0]
            self.taken[name] = identity
            self._names[identity] = name
        return self._names[identity]


@dataclass(kw_only=True)
class Answers:
    """Asks each question once, whoever repeats it: a model may be built several times.

    ``values`` has the answers by the names that the author gave.
    """

    ask: Ask
    values: dict[str, ParamValue] = field(default_factory=dict)
    _known: dict[tuple[Any, ...], ParamValue] = field(default_factory=dict)

    def __call__(self, question: Question) -> ParamValue:
        key = (question.name, question.scope)
        if key not in self._known:
            # The author's own choice: a storage of JSON makes lists of tuples.
            value = fit_value(question.distribution, self.ask(question))
            self._known[key] = self.values[question.name] = value
        return self._known[key]


def recorded(params: Params) -> Ask:
    """Answer from a trial's record.

    The returned function raises ``InvalidParamsError`` for what the record does not have.
    """

    def answer(question: Question) -> ParamValue:
        key = question.find(params)
        if key is None:
            raise InvalidParamsError(
                f"The model's code asks for {question.name}, which is not in the trial's record."
            )
        return choose(question, params[key], "the record's")

    return answer


class Author(Protocol):
    """A model's code at one point of its space: every build has the same answers."""

    def build(self, input_shape: tuple[int, ...], classes: int) -> keras.Model:
        """A new model, as its author wrote it."""

    @property
    def fit(self) -> Callable[..., Any] | None:
        """The author's own training ``(model, *args, **kwargs)``; None for Keras's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AskingSpace(SearchSpace):
    """A space whose parameters are what ``open`` asks for while it builds.

    It declares nothing, so its digest is that of its source files. ``build`` makes a model from a
    trial's recorded parameters.
    """

    open: Callable[[Ask], Author] = field(repr=False)

    asks: ClassVar[bool] = True

    @property
    def digest(self) -> str:
        return self.sources

    def point(self, changes: Params) -> dict[str, ParamValue]:
        """``changes`` as they are: what they belong to is known when it is asked for."""
        return dict(changes)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "asks": True}


def asking_space(
    open_author: Callable[[Ask], Author],
    *,
    name: str,
    description: str,
    sources: str,
    source: str = "",
    version: int = 1,
) -> AskingSpace:
    """A space of the models that ``open_author`` builds; ``sources`` is its code's digest."""

    def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
        return open_author(Answers(ask=recorded(params))).build(input_shape, classes)

    return AskingSpace(
        name=name,
        version=version,
        description=description,
        distributions={},
        defaults={},
        source=source,
        sources=sources,
        build=build,
        open=open_author,
    )


class AskingTrial:
    """An Optuna trial as a build function sees it: ``suggest_*`` and nothing of the study.

    Optuna has no defaults; the first choice and the middle of a range stand for them.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.params: dict[str, ParamValue] = {}
        self.user_attrs: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[ParamValue]) -> ParamValue:
        """One of ``choices``; NumPy's numbers become Python's."""
        plain = tuple(getattr(each, "item", lambda each=each: each)() for each in choices)
        with warnings.catch_warnings():  # what cannot be recorded is refused by ``Question``
            warnings.simplefilter("ignore", UserWarning)
            return self._suggest(name, CategoricalDistribution(plain))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return self._suggest(name, int_range(low, high, step=step, log=log))  # type: ignore[return-value]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from ``low`` to ``high``, both included."""
        return self._suggest(name, float_range(low, high, step=step, log=log))  # type: ignore[return-value]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # how Python asks what an object can do
            raise AttributeError(name)
        raise ConfigurationError(
            f"trial.{name} is not known here.",
            next_step="Use trial.suggest_int, suggest_float or suggest_categorical.",
        )

    def set_user_attr(self, key: str, value: Any) -> None:
        """Kept here only: a build's notes are not part of the study."""
        self.user_attrs[key] = value

    def report(self, value: float, step: int) -> None:
        """Refused: mnist-lab reports each epoch and prunes by itself."""
        raise ConfigurationError(
            "A build function must not call trial.report: mnist-lab reports every epoch itself.",
            next_step="Return the compiled model, and delete the training loop.",
        )

    def should_prune(self) -> bool:
        """Refused, as ``report``."""
        self.report(0.0, 0)
        return False

    def _suggest(self, name: str, distribution: BaseDistribution) -> ParamValue:
        default = middle(distribution)
        value = self._ask(Question(name=name, distribution=distribution, default=default))
        self.params[name] = value
        return value


def int_range(low: int, high: int, *, step: int = 1, log: bool = False) -> IntDistribution:
    """Whole numbers; ``high`` is lowered to the last step, where Optuna would warn."""
    return IntDistribution(low, high - (high - low) % step, log=log, step=step)


def float_range(
    low: float, high: float, *, step: float | None = None, log: bool = False
) -> FloatDistribution:
    """Numbers; ``high`` is lowered to the last step, where Optuna would warn."""
    if step:
        high = float(f"{low + int((high - low) / step + 1e-8) * step:.12g}")
    return FloatDistribution(low, high, log=log, step=step)


def middle(distribution: BaseDistribution) -> ParamValue:
    """The first choice, or the middle of a range: the geometric one where its scale is logarithmic."""
    if isinstance(distribution, CategoricalDistribution):
        first: ParamValue = distribution.choices[0]
        return first
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    centre = (low * high) ** 0.5 if distribution.log else (low + high) / 2
    return nearest(distribution, centre)


def nearest(distribution: BaseDistribution, value: ParamValue) -> ParamValue:
    """The value of ``distribution`` that is nearest to a number; ``value`` itself if it is one."""
    if contains(distribution, value) or isinstance(distribution, CategoricalDistribution):
        return value
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    wanted = min(max(float(value or 0), distribution.low), distribution.high)
    if distribution.step:
        steps = round((wanted - distribution.low) / distribution.step)
        wanted = distribution.low + steps * distribution.step
    return round(wanted) if isinstance(distribution, IntDistribution) else float(f"{wanted:.12g}")


def choose(question: Question, wanted: ParamValue, origin: str) -> ParamValue:
    """``wanted`` in the parameter's own type.

    Raises:
        InvalidParamsError: it is no value of the parameter; ``origin`` says who wanted it.
    """
    value = fit_value(question.distribution, wanted)
    if not contains(question.distribution, value):
        raise InvalidParamsError(
            f"{origin} {question.name}={wanted!r} is outside {describe_range(question.distribution)}."
        )
    return value
