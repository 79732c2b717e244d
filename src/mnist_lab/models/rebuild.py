"""Building a model again by its space, with nothing but the weights taken from its file.

A model file is code until proven otherwise; a space's file is code that the user swept, and so
trusts. Where it is there, and has the digest that the trial had, any Keras model can be loaded: custom
layers, classes without ``get_config``, augmentation. Where it is not, the list in ``safe.py`` decides.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mnist_lab.config import LARGEST_ENSEMBLE
from mnist_lab.data import ImageForm
from mnist_lab.errors import DataError, MnistLabError, first_line
from mnist_lab.execution import Blueprint
from mnist_lab.models.join import join
from mnist_lab.models.safe import check_archive, check_layers, load_model
from mnist_lab.settings import Settings
from mnist_lab.spaces import (
    digest_sources,
    find_trusted,
    is_file_reference,
    is_shipped,
    is_trusted,
    load_space,
    locate_file,
)
from mnist_lab.training import PLAIN, ModelForm, around, without_optimizer

if TYPE_CHECKING:
    import keras


def load_trained(
    file: Path, sha256: str, blueprint: Blueprint | None, settings: Settings
) -> keras.Model:
    """Load a trial's model file: pixels in, probabilities out.

    Raises:
        DataError: the file is not what was logged; or its space is not at hand, and it holds what
            cannot be loaded without.
    """
    if blueprint is None or not _is_rebuilt(blueprint):
        return load_model(file, sha256)
    members = check_archive(file, sha256)
    blueprint = _as_it_lies_now(blueprint, settings)
    absent = why_absent(blueprint, settings)
    if absent:
        check_without_space(file, members, absent)
        return load_model(file, sha256)
    try:
        return _rebuild(blueprint, members["model.weights.h5"])
    except Exception as error:  # whatever the author's code or Keras raises
        raise DataError(
            f"The model file {file.name} does not fit {blueprint.space}: {first_line(error)}.",
            safe="No alias was moved.",
            next_step="Install the versions that it was trained with: see environment in its run's "
            "config.json.",
        ) from error


def check_trained(file: Path, sha256: str, blueprint: Blueprint | None, settings: Settings) -> None:
    """Run every check of ``load_trained``, without loading.

    Raises:
        DataError: as ``load_trained``.
    """
    members = check_archive(file, sha256)
    if blueprint is None or not _is_rebuilt(blueprint):
        check_layers(file, members)
    elif absent := why_absent(_as_it_lies_now(blueprint, settings), settings):
        check_without_space(file, members, absent)


def _is_rebuilt(blueprint: Blueprint) -> bool:
    """Return whether only the weights are taken from the file, and the space builds the model.

    That is so for spaces of files and packages; and for shipped spaces where images are not MNIST's,
    because the bound of ``check_layers`` for the memory of a model is too rough for larger ones.
    """
    if blueprint.sources:
        return True
    return is_shipped(blueprint.space) and not blueprint.images.takes_the_same(ImageForm())


class SpaceAbsentError(DataError):
    """The error of a model that needs the code of its space, where that is not at hand."""


def check_without_space(file: Path, members: dict[str, bytes], absent: str) -> None:
    """Check that the file needs no space; ``absent`` says why there is none.

    Raises:
        SpaceAbsentError: the list of layers does not have all that it holds.
        DataError: likewise, and nothing is known of a space.
    """
    try:
        check_layers(file, members)
    except DataError as error:
        if not absent:
            raise
        raise SpaceAbsentError(
            f"{error.problem} {absent}",
            safe=error.safe,
            next_step="Put the former space file back, or sweep it from this home: so it is trusted.",
        ) from error


def _as_it_lies_now(blueprint: Blueprint, settings: Settings) -> Blueprint:
    """``blueprint`` with the place of its space's file, which may have been moved and swept again."""
    if not is_file_reference(blueprint.space):
        return blueprint
    for place in find_trusted(settings, blueprint.space, blueprint.sources):
        found = replace(blueprint, space=place)
        if not why_absent(found, settings):
            return found
    return blueprint


def why_absent(blueprint: Blueprint, settings: Settings) -> str:
    """Explain in one sentence why the model's space cannot be used here; empty if it can."""
    if not is_file_reference(blueprint.space):
        try:
            space = load_space(blueprint.space)
        except MnistLabError as error:
            return error.problem
        changed = space.sources != blueprint.sources
        return f"The space {blueprint.space} has changed since it was trained." if changed else ""
    path = locate_file(blueprint.space)
    if not path.is_file():
        return f"Its space's file {path} is gone."
    if digest_sources(path) != blueprint.sources:
        return f"Its space's file {path}, or one beside it, has changed since it was trained."
    if not is_trusted(settings, blueprint.space, blueprint.sources):
        return f"Its space's file {path} is code that was never swept from {settings.root}."
    return ""


def _rebuild(blueprint: Blueprint, weights: bytes) -> keras.Model:
    if not 1 <= blueprint.members <= LARGEST_ENSEMBLE:
        raise ValueError(f"no ensemble has {blueprint.members} members")
    whole = join([_build(blueprint) for _ in range(blueprint.members)])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.weights.h5"
        file.write_bytes(weights)
        with without_optimizer(whole):
            whole.load_weights(file)
    return whole


def _build(blueprint: Blueprint) -> keras.Model:
    import keras

    form = ModelForm.from_dict(blueprint.form) if blueprint.form else PLAIN
    shape = blueprint.images.shape
    if not blueprint.images.is_possible:
        raise ValueError(f"no data set has images {shape} in {blueprint.images.classes} classes")
    space = load_space(blueprint.space).shaped(shape)
    if not space.asks:  # one that asks checks each answer
        space.check(blueprint.params)
    model = space.build(blueprint.params, shape, blueprint.images.classes)
    if form.is_plain and type(model).__module__.startswith("keras."):
        return keras.Model(model.inputs, model.outputs, name=model.name)  # as it was saved
    model(form.feed(np.zeros((1, *shape), np.uint8)))  # it may have no weights yet
    return around(model, form, shape)
