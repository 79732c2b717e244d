"""The registry of search spaces: those that ship, those that packages add, those in a file.

A package adds a space with an entry point in the group ``mnist_lab.spaces`` whose value is a
``SearchSpace`` (see ``search_space``) or a KerasTuner ``HyperModel``. A file is named on the command
line as ``path/to/file.py:name``; it is code, and it is run in a process of its own when it is read.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lab.errors import ConfigurationError, UnknownNameError
from mnist_lab.spaces.cnn import cnn_v1, cnn_v2
from mnist_lab.spaces.fnn import fnn_v1, fnn_v2
from mnist_lab.spaces.space import Params, SearchSpace

if TYPE_CHECKING:
    import keras

BUILT_IN = (fnn_v1, fnn_v2, cnn_v1, cnn_v2)
ENTRY_POINT_GROUP = "mnist_lab.spaces"
_FILE_REFERENCE = re.compile(r"(?P<path>.+\.py):(?P<attribute>\w+)")


@cache
def list_spaces() -> dict[str, SearchSpace]:
    """Every registered space by id (``cnn-v1``), in order of registration."""
    found = {space.id: space for space in BUILT_IN}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            space = as_space(entry.load(), name=entry.name)
        except Exception as error:
            raise ConfigurationError(
                f"The entry point {entry.name!r} ({entry.value}) offers no space: {error}",
                next_step="Mend or uninstall its package.",
            ) from error
        if space.id in found:
            raise ConfigurationError(
                f"The entry point {entry.name!r} ({entry.value}) offers {space.id}, which exists.",
                next_step="Give it another name or version.",
            )
        found[space.id] = space
    return found


def get_space(reference: str) -> SearchSpace:
    """Find a space: ``cnn`` (its newest version), ``cnn-v1``, or ``path/to/file.py:name``.

    Raises:
        UnknownNameError: no such space; the nearest name is offered.
        ConfigurationError: the file cannot be read as a space.
    """
    if _FILE_REFERENCE.fullmatch(reference):
        return _describe_in_own_process(reference)
    built_in = {space.id: space for space in BUILT_IN}
    if reference in built_in:  # before anybody else's package is imported
        return built_in[reference]
    spaces = list_spaces()
    if reference in spaces:
        return spaces[reference]
    versions = [space for space in spaces.values() if space.name == reference]
    if not versions:
        names = dict.fromkeys([*(space.name for space in spaces.values()), *spaces])
        raise UnknownNameError("search space", reference, names, next_step="See: mnist-lab spaces")
    return max(versions, key=lambda space: space.version)


def load_space(reference: str) -> SearchSpace:
    """As ``get_space``, but runs a file in this process: for workers, which must build its models."""
    match = _FILE_REFERENCE.fullmatch(reference)
    if match is None:
        return get_space(reference)
    path = Path(match["path"]).expanduser().resolve()
    attribute = match["attribute"]
    spec = importlib.util.spec_from_file_location(f"mnist_lab_space_{path.stem}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise ConfigurationError(f"There is no space file {path}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        raise UnknownNameError(f"space in {path.name}", attribute, _spaces_in(module))
    return as_space(getattr(module, attribute), name=attribute, source=f"{path}:{attribute}")


def as_space(value: Any, *, name: str, source: str = "") -> SearchSpace:
    """Return ``value`` as a space if it is one, or a KerasTuner ``HyperModel`` turned into one."""
    if isinstance(value, SearchSpace):
        return SearchSpace(**{**vars(value), "source": source or value.source})
    if "keras_tuner" in sys.modules:
        from mnist_lab.spaces.keras_tuner import from_hypermodel, is_hypermodel

        if is_hypermodel(value):
            return from_hypermodel(value, name=name, source=source)
    raise ConfigurationError(
        f"{source or name} is a {type(value).__name__}, not a search space.",
        next_step="Decorate its build function with mnist_lab.spaces.search_space.",
    )


def _describe_in_own_process(reference: str) -> SearchSpace:
    # The file may import Keras, and may do anything else: the supervisor must not (DESIGN D1).
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "space.json"
        done = subprocess.run(
            [sys.executable, "-m", "mnist_lab.spaces.describe", reference, str(answer)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ConfigurationError(f"{reference} is no search space: {reason}")
        data = json.loads(answer.read_text())

    def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
        return load_space(reference).build(params, input_shape, classes)

    return SearchSpace.from_dict(data, build=build)


def _spaces_in(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, SearchSpace)]
