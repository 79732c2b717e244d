"""``SearchSpace``: parameters as Optuna distributions, conditions between them, and a builder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from optuna.distributions import (
    BaseDistribution,
    distribution_to_json,
    json_to_distribution,
)

from mnist_lab.errors import InvalidParamsError, UnknownNameError

if TYPE_CHECKING:
    import keras
from mnist_lab.spaces.ranges import nearest
from mnist_lab.spaces.values import (
    Params,
    ParamValue,
    as_kind,
    contains,
    describe_range,
    parse_value,
    read_literal,
)

Distributions = Mapping[str, BaseDistribution]
Builder = Callable[[Params, tuple[int, ...], int], "keras.Model"]
Limits = Callable[[tuple[int, ...]], Distributions]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A rule that a parameter is in use only while ``parent`` has one of ``values``."""

    parent: str
    values: tuple[ParamValue, ...]

    def holds(self, params: Params) -> bool:
        return self.parent in params and params[self.parent] in self.values

    def within(self, distribution: BaseDistribution) -> Condition:
        """Return the rule with those of its values that ``distribution`` has."""
        held = tuple(value for value in self.values if contains(distribution, value))
        return replace(self, values=held)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A rule over several parameters; ``allows`` returns False for forbidden points."""

    name: str
    allows: Callable[[Params], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchSpace:
    """A family of models, ``<name>-v<version>``, and the ranges of its parameters.

    ``defaults`` holds a value for every parameter, in use or not; those in use are the baseline, the
    first trial of every sweep. ``build(params, input_shape, classes)`` returns a compiled Keras model
    (functional or sequential) that takes pixels ``(N, *input_shape) uint8`` and returns probabilities
    ``(N, classes) float32``; Keras may be imported inside it only. Four parameters are the trainer's,
    where they are there: ``batch_size``; ``schedule``, of which ``"one_cycle"`` lets the learning rate
    rise to its value and fall to nothing; ``shift``, the most pixels that images are moved; ``flip``.
    ``limits`` returns the narrower ranges, by name, in which no model for images of a shape collapses.
    ``for_colour`` makes it the version that ``name`` alone means for colour images.
    ``starts`` are changes to the defaults that are known to be good: they are tried after the
    baseline, before the sampler is asked. ``baseline_size`` is the baseline's count of Keras
    parameters, declared so that it can be shown without Keras; ``mnist-lab spaces NAME --check``
    counts it. ``sources`` is the digest of the file that the space stands in and of its neighbours.

    Raises:
        InvalidParamsError: a declaration that contradicts itself, when it is made.
    """

    name: str
    version: int
    description: str
    distributions: Distributions
    defaults: Params
    build: Builder
    conditions: Mapping[str, tuple[Condition, ...]] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    source: str = ""
    sources: str = ""
    baseline_size: int | None = None
    starts: tuple[Params, ...] = ()
    limits: Limits | None = field(default=None, repr=False)
    for_colour: bool = False

    def __post_init__(self) -> None:
        from mnist_lab.spaces.declaration import mistakes  # it needs what is defined here

        mistake = next(mistakes(self), None)
        if mistake:
            raise InvalidParamsError(f"Space {self.id}: {mistake}.")

    # Whether its parameters are known only when its code asks for them.
    asks: ClassVar[bool] = False

    @property
    def id(self) -> str:
        return f"{self.name}-v{self.version}"

    @property
    def reference(self) -> str:
        """The reference by which ``get_space`` finds this space, in this process or in a worker."""
        return self.source or self.id

    @property
    def baseline(self) -> dict[str, ParamValue]:
        return self.draw(lambda name, _: self.defaults[name])

    @property
    def digest(self) -> str:
        """sha256 of the declaration: two spaces with one digest accept the same points."""
        declaration = self.to_dict()
        for name in ("source", "sources", "description", "baseline_size", "starts"):
            del declaration[name]
        return hashlib.sha256(json.dumps(declaration, sort_keys=True).encode()).hexdigest()

    def shaped(self, input_shape: tuple[int, ...]) -> SearchSpace:
        """Return the space whose models can be built for images of this shape.

        Ranges become those of ``limits``; parameters and starts that these leave no use are left out.
        """
        narrower = self.limits(input_shape) if self.limits is not None else {}
        if not narrower:
            return self
        kept: dict[str, BaseDistribution] = {}
        conditions: dict[str, tuple[Condition, ...]] = {}
        for name, distribution in self.distributions.items():
            rules = tuple(
                rule.within(narrower[rule.parent]) if rule.parent in narrower else rule
                for rule in self.conditions.get(name, ())
            )
            if all(rule.values and rule.parent in kept for rule in rules):
                kept[name] = narrower.get(name, distribution)
                conditions.update({name: rules} if rules else {})
        starts = (
            {name: value for name, value in start.items() if name in kept} for start in self.starts
        )
        return replace(
            self,
            distributions=kept,
            conditions=conditions,
            defaults={name: nearest(each, self.defaults[name]) for name, each in kept.items()},
            starts=tuple(
                start
                for start in starts
                if all(contains(kept[name], value) for name, value in start.items())
            ),
            baseline_size=None,
            limits=None,
        )

    def is_active(self, name: str, params: Params) -> bool:
        return all(condition.holds(params) for condition in self.conditions.get(name, ()))

    def draw(self, choose: Callable[[str, BaseDistribution], ParamValue]) -> dict[str, ParamValue]:
        """Walk the parameters in order, and give each one in use the value of ``choose``."""
        params: dict[str, ParamValue] = {}
        for name, distribution in self.distributions.items():
            if self.is_active(name, params):
                params[name] = choose(name, distribution)
        return params

    def point(self, changes: Params) -> dict[str, ParamValue]:
        """Return the baseline with ``changes``; parameters that these bring into use get their default.

        Raises:
            UnknownNameError: the space has no such parameter.
            InvalidParamsError: a value outside its range, of another type, or not in use.
        """
        for name in changes:
            if name not in self.distributions:
                raise UnknownNameError("parameter", name, self.distributions)
        params = self.draw(
            lambda name, distribution: as_kind(distribution, changes.get(name, self.defaults[name]))
        )
        unused = sorted(set(changes) - set(params))
        if unused:
            raise InvalidParamsError(
                f"{', '.join(unused)} has no meaning here: {self.explain_condition(unused[0])}.",
                next_step=f"See: mnist-lab spaces {self.id}",
            )
        self.check(params)
        return params

    def check(self, params: Params) -> None:
        """Raise ``InvalidParamsError`` unless ``params`` is a point of this space."""
        for name, value in params.items():
            distribution = self.distributions[name]
            if not contains(distribution, value):
                raise InvalidParamsError(
                    f"{name}={value!r} is outside {describe_range(distribution)}.",
                    next_step=f"See: mnist-lab spaces {self.id}",
                )
        broken = self.broken_constraint(params)
        if broken:
            raise InvalidParamsError(f"Not allowed in {self.id}: {broken}.")

    def broken_constraint(self, params: Params) -> str | None:
        return next((rule.name for rule in self.constraints if not rule.allows(params)), None)

    def explain_condition(self, name: str) -> str:
        rules = (
            f"{rule.parent} is {' or '.join(str(value) for value in rule.values)}"
            for rule in self.conditions.get(name, ())
        )
        return f"{name} is used when " + " and ".join(rules)

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration as JSON-able data, which ``from_dict`` reads."""
        return {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "source": self.source,
            "sources": self.sources,
            "baseline_size": self.baseline_size,
            "starts": [dict(start) for start in self.starts],
            "distributions": {
                name: json.loads(distribution_to_json(distribution))
                for name, distribution in self.distributions.items()
            },
            "defaults": dict(self.defaults),
            "conditions": {
                name: [{"parent": rule.parent, "values": list(rule.values)} for rule in rules]
                for name, rules in self.conditions.items()
            },
            "constraints": [rule.name for rule in self.constraints],
        }

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, build: Builder, constraints: tuple[Constraint, ...] = ()
    ) -> SearchSpace:
        """Make a space of its declaration; code (``build``, ``constraints``) is no part of that."""
        return cls(
            name=data["name"],
            version=data["version"],
            description=data["description"],
            source=data["source"],
            sources=data.get("sources", ""),
            baseline_size=data["baseline_size"],
            starts=tuple(data["starts"]),
            distributions={
                name: json_to_distribution(json.dumps(entry))
                for name, entry in data["distributions"].items()
            },
            defaults=data["defaults"],
            conditions={
                name: tuple(
                    Condition(parent=rule["parent"], values=tuple(rule["values"])) for rule in rules
                )
                for name, rules in data["conditions"].items()
            },
            constraints=constraints
            or tuple(Constraint(name=name, allows=lambda _: True) for name in data["constraints"]),
            build=build,
        )


def search_space(
    *,
    name: str,
    version: int,
    description: str,
    distributions: Distributions,
    defaults: Params,
    conditions: Mapping[str, tuple[Condition, ...]] = MappingProxyType({}),
    constraints: tuple[Constraint, ...] = (),
    limits: Limits | None = None,
    for_colour: bool = False,
    baseline_size: int | None = None,
    starts: tuple[Params, ...] = (),
) -> Callable[[Builder], SearchSpace]:
    """Return a decorator that turns a build function into a ``SearchSpace``."""

    def decorate(build: Builder) -> SearchSpace:
        return SearchSpace(
            name=name,
            version=version,
            description=description,
            distributions=MappingProxyType(dict(distributions)),
            defaults=MappingProxyType(dict(defaults)),
            conditions=MappingProxyType(dict(conditions)),
            constraints=constraints,
            limits=limits,
            for_colour=for_colour,
            baseline_size=baseline_size,
            starts=starts,
            build=build,
        )

    return decorate


def parse_assignment(space: SearchSpace, text: str) -> tuple[str, list[ParamValue]]:
    """Read ``name=value`` or ``name=v1,v2`` from a command line.

    Raises:
        UnknownNameError: the space has no such parameter.
        InvalidParamsError: a value is not of the parameter's kind.
    """
    name, equals, values = text.partition("=")
    if not equals:
        raise InvalidParamsError(f"{text!r} should read NAME=VALUE.")
    if space.asks:  # its kind is known when the code asks for it
        return name, [read_literal(each) for each in values.split(",")]
    if name not in space.distributions:
        raise UnknownNameError("parameter", name, space.distributions)
    return name, [parse_value(space.distributions[name], each) for each in values.split(",")]
