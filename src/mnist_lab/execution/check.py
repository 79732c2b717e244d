"""``mnist-lab spaces NAME --check``: build a space's models, and try one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mnist_lab.data import Dataset, ImageForm
from mnist_lab.errors import ConfigurationError, first_line
from mnist_lab.spaces import (
    Answers,
    AskingSpace,
    Params,
    SearchSpace,
    answer_default,
    corners,
    is_shipped,
    load_space,
)
from mnist_lab.training import Build, Fit, ModelForm, find_form, require_model

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class SpaceCheck:
    """The number of built models; Keras parameters of the baseline's, the smallest, the largest.

    ``form`` says how the baseline's model takes images and labels, as text by name.
    """

    builds: int
    baseline: int
    least: int
    most: int
    form: Mapping[str, str] = field(default_factory=dict)


def check_space(space: SearchSpace, dataset: Dataset) -> SpaceCheck:
    """Build every corner of a declared space, or the defaults of one that asks; try one batch.

    Raises:
        ConfigurationError: a model cannot be built or trained, with its parameters.
    """
    space = load_space(space.reference)  # with the constraints of a file, which are code
    if isinstance(space, AskingSpace):
        return _check_asking(space, dataset)
    return _check_corners(space.shaped(dataset.form.shape), dataset)


def _check_asking(space: AskingSpace, dataset: Dataset) -> SpaceCheck:
    answers = Answers(ask=answer_default)
    author = space.open(answers)

    def build() -> keras.Model:
        try:
            return require_model(author.build(dataset.form.shape, dataset.classes))
        except Exception as error:  # whatever the author's code raises
            raise _cannot_build(space, answers.values, error) from error

    form = _find_form(space, build, dataset, raw=False, fit=author.fit)
    model = build()
    model(form.feed(dataset.train.images[:1]))  # it may have no weights yet
    count = int(model.count_params())
    return SpaceCheck(builds=1, baseline=count, least=count, most=count, form=form.facts())


def _check_corners(space: SearchSpace, dataset: Dataset) -> SpaceCheck:
    import keras

    counts: list[int] = []
    form = ModelForm()
    for point in corners(space):
        if space.broken_constraint(point):
            continue

        def build(point: Params = point) -> keras.Model:
            try:
                return require_model(space.build(point, dataset.form.shape, dataset.classes))
            except Exception as error:  # whatever the author's code raises
                raise _cannot_build(space, point, error) from error

        model = build()
        if model.output_shape != (None, dataset.classes):
            raise ConfigurationError(f"{space.id} builds {model.output_shape} from {point}.")
        if not counts and not is_shipped(space.reference):
            form = _find_form(space, build, dataset, raw=True)
        counts.append(int(model.count_params()))
        keras.utils.clear_session(free_memory=False)
    if dataset.form.takes_the_same(ImageForm()) and space.baseline_size not in (None, counts[0]):
        raise ConfigurationError(
            f"{space.id} declares {space.baseline_size:,} baseline parameters; it has {counts[0]:,}."
        )
    return SpaceCheck(
        builds=len(counts),
        baseline=counts[0],
        least=min(counts),
        most=max(counts),
        form=form.facts(),
    )


def _find_form(
    space: SearchSpace, build: Build, dataset: Dataset, *, raw: bool, fit: Fit | None = None
) -> ModelForm:
    """A model that builds may still be compiled wrongly: loss, metrics and labels meet here."""
    try:
        return find_form(build, dataset.train, dataset.classes, raw=raw, fit=fit)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{space.id}: {error.problem}", next_step=error.next_step
        ) from error


def _cannot_build(space: SearchSpace, point: Params, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"{space.id} cannot build {dict(point)}: {first_line(error)}")
