"""``Question``: one parameter that a model's code asks for, and the names of such parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mnist_lab.errors import ConfigurationError, InvalidParamsError
from mnist_lab.spaces.values import Params, ParamValue, contains, describe_range, fit_value

if TYPE_CHECKING:
    pass


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
        """The choices, or the type and scale of a range: Optuna lets neither change under one name."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return "|".join(str(choice) for choice in distribution.choices)
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        kind = "int" if isinstance(distribution, IntDistribution) else "float"
        return f"{kind}-log" if distribution.log else kind

    @property
    def identity(self) -> str:
        """A text that is the same for two questions of one parameter."""
        return json.dumps([self.name, self.scope, self.kind], default=str)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names that the parameter may have in a study, the plainest first."""
        scope = ".".join(f"{parent}.{'|'.join(map(str, values))}" for parent, values in self.scope)
        scoped = f"{self.name}.{scope}" if scope else self.name
        longer = (scoped, f"{self.name}.{self.kind}", f"{scoped}.{self.kind}")
        return tuple(dict.fromkeys((self.name, *(_shortened(key, self.name) for key in longer))))

    def find(self, params: Params) -> str | None:
        """Return the most specific name that the parameter has in ``params``; None without one."""
        return next((key for key in reversed(self.keys) if key in params), None)


def _is_plain(choice: object) -> bool:
    if isinstance(choice, tuple | list):
        return all(map(_is_plain, choice))
    return choice is None or type(choice) in (bool, int, float, str)


def _shortened(key: str, name: str) -> str:
    """Return ``key``, or ``name`` with its digest: a database takes 512 characters, a table fewer."""
    if len(key) <= LONGEST_NAME:
        return key
    return f"{name}.{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def answer_default(question: Question) -> ParamValue:
    """Return the author's default."""
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
        """Return the name of ``question``; a new one has its name in ``known``, else a free one."""
        identity = question.identity
        if identity not in self._names:
            free = [key for key in question.keys if key not in self.taken] or [identity]
            name = question.find({key: None for key in free if key in known}) or free[0]
            self.taken[name] = identity
            self._names[identity] = name
        return self._names[identity]


def choose(question: Question, wanted: ParamValue, origin: str) -> ParamValue:
    """Return ``wanted`` in the parameter's own type.

    Raises:
        InvalidParamsError: it is no value of the parameter; ``origin`` says where it is from.
    """
    value = fit_value(question.distribution, wanted)
    if not contains(question.distribution, value):
        raise InvalidParamsError(
            f"{origin} {question.name}={wanted!r} is outside {describe_range(question.distribution)}."
        )
    return value
