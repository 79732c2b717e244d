"""``AskingSpace``: a search space that is known only by what ``build`` asks for while it runs.

A declared space lists its parameters beforehand. Code in KerasTuner's or Optuna's words does not:
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
from mnist_lab.spaces.space import Params, ParamValue, SearchSpace
from mnist_lab.spaces.values import fit_value

if TYPE_CHECKING:
    import keras
from mnist_lab.spaces.question import Question, choose
from mnist_lab.spaces.ranges import float_range, int_range, middle

Ask = Callable[[Question], ParamValue]


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
