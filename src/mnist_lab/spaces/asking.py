"""``AskingSpace``: a search space whose parameters become known while ``build`` runs.

A declared space lists its parameters beforehand. Code written for KerasTuner or Optuna does not:
loops, branches and names made at run time decide what is asked for. So each call is a ``Question``,
answered by whoever runs the build: the study's sampler, a record, or the defaults.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
)

from mnist_lab.errors import ConfigurationError, InvalidParamsError
from mnist_lab.spaces.space import SearchSpace
from mnist_lab.spaces.values import Params, ParamValue, fit_value

if TYPE_CHECKING:
    import keras
from mnist_lab.spaces.question import Question, choose
from mnist_lab.spaces.ranges import float_range, int_range, middle

Ask = Callable[[Question], ParamValue]


@dataclass(kw_only=True)
class Answers:
    """The answers to a model's code: each question is asked once, however often the model is built.

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
    """Return a function that answers from a trial's recorded parameters.

    It raises ``InvalidParamsError`` for a parameter that the record lacks.
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
    """A model's code at one point of its space: every build gets the same answers."""

    def build(self, input_shape: tuple[int, ...], classes: int) -> keras.Model:
        """Build a new model by the author's code."""

    @property
    def fit(self) -> Callable[..., Any] | None:
        """The author's own training ``(model, *args, **kwargs)``; None for Keras's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AskingSpace(SearchSpace):
    """A space whose parameters are those that ``open`` asks for during a build.

    It declares nothing, so its digest is that of its source files. ``build`` makes a model from a
    trial's recorded parameters.
    """

    open: Callable[[Ask], Author] = field(repr=False)

    asks: ClassVar[bool] = True

    @property
    def digest(self) -> str:
        return self.sources

    def point(self, changes: Params) -> dict[str, ParamValue]:
        """Return ``changes`` unchecked: each is checked when its parameter is asked for."""
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
    """Make a space of the models that ``open_author`` builds; ``sources`` is its code's digest."""

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
    """The trial that a build function for Optuna gets: ``suggest_*``, and nothing of the study.

    Optuna has no defaults; the first choice and the middle of a range stand for them.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.params: dict[str, ParamValue] = {}
        self.user_attrs: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[ParamValue]) -> ParamValue:
        """Return one of ``choices``; NumPy's numbers become Python's."""
        plain = tuple(getattr(each, "item", lambda each=each: each)() for each in choices)
        with warnings.catch_warnings():  # ``Question`` refuses choices that cannot be recorded
            warnings.simplefilter("ignore", UserWarning)
            return self._suggest(name, CategoricalDistribution(plain))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return self._suggest(name, int_range(low, high, step=step, log=log))  # type: ignore[return-value]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number from ``low`` to ``high``, both included."""
        return self._suggest(name, float_range(low, high, step=step, log=log))  # type: ignore[return-value]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # how Python asks what an object can do
            raise AttributeError(name)
        raise ConfigurationError(
            f"trial.{name} is not known here.",
            next_step="Use trial.suggest_int, suggest_float or suggest_categorical.",
        )

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep an attribute in this object only: a build's notes are not part of the study."""
        self.user_attrs[key] = value

    def report(self, value: float, step: int) -> None:
        """Raise ``ConfigurationError``: mnist-lab reports each epoch and prunes by itself."""
        raise ConfigurationError(
            "A build function must not call trial.report: mnist-lab reports every epoch itself.",
            next_step="Return the compiled model, and delete the training loop.",
        )

    def should_prune(self) -> bool:
        """Raise ``ConfigurationError``, as ``report`` does."""
        self.report(0.0, 0)
        return False

    def _suggest(self, name: str, distribution: BaseDistribution) -> ParamValue:
        default = middle(distribution)
        value = self._ask(Question(name=name, distribution=distribution, default=default))
        self.params[name] = value
        return value
