"""A survey of an ``AskingSpace``: the parameters and conditions seen in seeded builds."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from mnist_lab.data import ImageForm
from mnist_lab.spaces.asking import AskingSpace
from mnist_lab.spaces.question import Names, Question, answer_default
from mnist_lab.spaces.values import Params, ParamValue

BUILDS = 100
MOST_SECONDS = 30.0
MOST_VALUES = 10  # of a parameter that a condition may be on


def survey(space: AskingSpace, *, builds: int = BUILDS) -> dict[str, Any]:
    """Build the space's models, untrained, at its defaults and at ``builds`` - 1 seeded points.

    It ends after ``MOST_SECONDS``, with fewer builds.

    Returns JSON: ``parameters`` (name, distribution, default, the condition as far as seen),
    ``builds`` that succeeded, and ``failures``: messages and how often.
    """
    import keras

    names, seen, points = Names({}), dict[str, Question](), list[Params]()
    failures: dict[str, int] = {}
    form = ImageForm()  # a survey is of the code, whatever the data
    began = time.monotonic()
    for number in range(builds):
        if time.monotonic() - began > MOST_SECONDS:
            break
        point: dict[str, ParamValue] = {}
        random = np.random.default_rng([number])

        def ask(
            question: Question,
            number: int = number,
            random: np.random.Generator = random,
            point: dict[str, ParamValue] = point,
        ) -> ParamValue:
            key = names.key(question, point)
            if key not in point:
                seen.setdefault(key, question)
                point[key] = answer_default(question) if not number else draw(question, random)
            return point[key]

        try:
            space.open(ask).build(form.shape, form.classes)
            points.append(point)
        except Exception as error:  # whatever the author's code raises at this point
            message = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            failures[message] = failures.get(message, 0) + 1
        finally:
            keras.utils.clear_session(free_memory=False)
    parameters = [
        {
            "name": key,
            "distribution": json.loads(distribution_to_json(question.distribution)),
            "default": question.default,
            "condition": condition_of(key, points),
        }
        for key, question in seen.items()
    ]
    return {"parameters": parameters, "builds": len(points), "failures": failures}


def draw(question: Question, random: np.random.Generator) -> ParamValue:
    """Draw a value of the parameter, each of its choices or steps with the same probability."""
    distribution: BaseDistribution = question.distribution
    if isinstance(distribution, CategoricalDistribution):
        chosen: ParamValue = distribution.choices[random.integers(len(distribution.choices))]
        return chosen
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        value = float(np.exp(random.uniform(np.log(low), np.log(high))))
        return round(value) if isinstance(distribution, IntDistribution) else value
    if distribution.step:
        steps = round((high - low) / distribution.step)
        stepped = low + int(random.integers(steps + 1)) * distribution.step
        return stepped if isinstance(distribution, IntDistribution) else float(f"{stepped:.12g}")
    return float(random.uniform(low, high))


def condition_of(name: str, points: Sequence[Mapping[str, ParamValue]]) -> str:
    """Describe the condition under which builds asked for ``name``; empty if all asked."""
    asked = [point for point in points if name in point]
    others = [point for point in points if name not in point]
    if not others:
        return ""
    for parent in dict.fromkeys(key for point in asked for key in point):
        if parent == name or any(parent not in point for point in asked):
            continue
        values = {point[parent] for point in asked}
        # Of many values, any two groups of builds have different ones.
        if len({point.get(parent) for point in points}) > MOST_VALUES:
            continue
        if not values & {point[parent] for point in others if parent in point}:
            words = " or ".join(str(value) for value in sorted(values, key=str))
            return f"{parent} is {words}"
    return f"in {len(asked)} of {len(points)} builds"
