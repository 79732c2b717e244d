"""The registry of search spaces: built-in ones, those of other packages, those in a file.

A package adds a space with an entry point in the group ``mnist_lab.spaces`` whose value is a
``SearchSpace`` (see ``search_space``), a KerasTuner ``HyperModel``, or a function that asks (of ``hp``,
or of a trial). A file is named on the command line as ``path/to/file.py:name``; it is code, and it is
run in a process of its own when it is read.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lab.errors import ConfigurationError, UnknownNameError
from mnist_lab.spaces.asking import Ask, AskingSpace, AskingTrial, Author, asking_space
from mnist_lab.spaces.cnn import cnn_v1, cnn_v2, cnn_v3
from mnist_lab.spaces.files import defined_names, digest_sources, import_file
from mnist_lab.spaces.fnn import fnn_v1, fnn_v2
from mnist_lab.spaces.space import SearchSpace
from mnist_lab.spaces.values import Params

if TYPE_CHECKING:
    import keras

BUILT_IN = (fnn_v1, fnn_v2, cnn_v1, cnn_v2, cnn_v3)
ENTRY_POINT_GROUP = "mnist_lab.spaces"
_FILE_REFERENCE = re.compile(r"(?P<path>.+\.py):(?P<attribute>\w+)")
# Names that say nothing of the model: the file's name is the space's, then.
_COMMON_NAMES = frozenset({
    "build", "build_model", "create_model", "hypermodel", "make_model", "model", "model_builder",
    "HyperModel", "Model", "MyHyperModel",
})  # fmt: skip


@cache
def list_spaces() -> dict[str, SearchSpace]:
    """Return every registered space by id (``cnn-v1``), in order of registration."""
    found = {space.id: space for space in BUILT_IN}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            space = as_space(entry.load(), name=entry.name)
        except Exception as error:
            raise ConfigurationError(
                f"The entry point {entry.name!r} ({entry.value}) offers no space: {error}",
                next_step="Repair or uninstall its package.",
            ) from error
        if space.id in found:
            raise ConfigurationError(
                f"The entry point {entry.name!r} ({entry.value}) offers {space.id}, which exists.",
                next_step="Give it another name or version.",
            )
        found[space.id] = space
    return found


def get_space(reference: str, *, colour: bool = False) -> SearchSpace:
    """Find a space: ``cnn``, ``cnn-v1``, or ``path/to/file.py:name``.

    A name alone means its newest version for grey images; for ``colour`` ones, if it has such.

    Raises:
        UnknownNameError: no such space; the nearest name is offered.
        ConfigurationError: the file cannot be read as a space.
    """
    if reference.endswith(".py"):
        defined = ", ".join(defined_names(locate_file(f"{reference}:"))) or "nothing"
        raise ConfigurationError(
            f"{reference} is a file: which of its spaces? It defines {defined}.",
            next_step=f"Give {reference}:NAME.",
        )
    if is_file_reference(reference):
        return _describe_in_own_process(reference)
    built_in = {space.id: space for space in BUILT_IN}
    if reference in built_in:  # before the packages of entry points are imported
        return built_in[reference]
    spaces = list_spaces()
    if reference in spaces:
        return spaces[reference]
    versions = [space for space in spaces.values() if space.name == reference]
    if not versions:
        names = dict.fromkeys([*(space.name for space in spaces.values()), *spaces])
        raise UnknownNameError("search space", reference, names, next_step="See: mnist-lab spaces")
    suited = [space for space in versions if space.for_colour == colour] or versions
    return max(suited, key=lambda space: space.version)


def is_file_reference(reference: str) -> bool:
    """Return whether ``reference`` reads ``path/to/file.py:name``."""
    return _FILE_REFERENCE.fullmatch(reference) is not None


def locate_file(reference: str) -> Path:
    """Return the absolute path of the file in ``path/to/file.py:name``."""
    return Path(reference.rpartition(":")[0]).expanduser().resolve()


def is_shipped(reference: str) -> bool:
    """Return whether the space ships with mnist-lab: its models are not tried before training."""
    return any(reference in (space.id, space.name) for space in BUILT_IN)


def load_space(reference: str) -> SearchSpace:
    """Find a space as ``get_space``, but run its file in this process, as workers must."""
    match = _FILE_REFERENCE.fullmatch(reference)
    if match is None:
        return get_space(reference)
    path, attribute = locate_file(reference), match["attribute"]
    module = import_file(path)
    if not hasattr(module, attribute):
        raise UnknownNameError(f"space in {path.name}", attribute, _spaces_in(module))
    name = path.stem if attribute in _COMMON_NAMES else attribute
    return as_space(
        getattr(module, attribute),
        name=re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-"),
        source=f"{path}:{attribute}",
        sources=digest_sources(path),
    )


def as_space(value: Any, *, name: str, source: str = "", sources: str = "") -> SearchSpace:
    """Return ``value`` as a space: a ``SearchSpace``, a ``HyperModel``, or a function that asks.

    ``sources`` is the digest of the code that it stands in.

    Raises:
        ConfigurationError: it is nothing of that kind, or needs arguments that are not known.
    """
    if isinstance(value, SearchSpace):
        found = {"source": source or value.source, "sources": sources or value.sources}
        return type(value)(**{**vars(value), **found})
    sources = sources or _digest_module(value)
    if _is_hypermodel(value, source or name):
        return asking_space(
            lambda ask: _open_hypermodel(value, ask, source or name),
            name=name,
            description=f"KerasTuner hypermodel {getattr(value, '__name__', type(value).__name__)}",
            source=source,
            sources=sources,
        )
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return _space_of_function(value, name, source, sources)
    raise ConfigurationError(
        f"{source or name} is a {type(value).__name__}, not a search space.",
        next_step="Give a keras_tuner.HyperModel, def build_model(hp), def build(trial, input_shape, "
        "classes), or a function decorated with mnist_lab.spaces.search_space.",
    )


def _space_of_function(value: Any, name: str, source: str, sources: str) -> AskingSpace:
    words = [
        each.name
        for each in inspect.signature(value).parameters.values()
        if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    in_optunas_words = words[:1] == ["trial"]
    if (
        words[1:] not in ([], ["input_shape", "classes"])
        or not words
        or (len(words) == 3 and not in_optunas_words)
    ):
        raise ConfigurationError(
            f"{source or name} takes ({', '.join(words)}): mnist-lab cannot call it.",
            next_step="Write def build_model(hp), or def build(trial, input_shape, classes).",
        )

    def open_author(ask: Ask) -> Author:
        if in_optunas_words:
            return _TrialAuthor(value, ask, takes_shape=len(words) == 3)
        return _open_hypermodel(value, ask, source or name)

    words_of = "Optuna" if in_optunas_words else "KerasTuner"
    return asking_space(
        open_author,
        name=name,
        description=f"function {getattr(value, '__name__', name)} in {words_of}'s words",
        source=source,
        sources=sources,
    )


@dataclass(frozen=True, kw_only=False)
class _TrialAuthor:
    """The ``Author`` behind a function of a trial."""

    function: Callable[..., Any]
    ask: Ask
    takes_shape: bool
    fit: None = None

    def build(self, input_shape: tuple[int, ...], classes: int) -> keras.Model:
        facts = (input_shape, classes) if self.takes_shape else ()
        return self.function(AskingTrial(self.ask), *facts)


def _is_hypermodel(value: Any, name: str) -> bool:
    if "keras_tuner" not in sys.modules:  # then nothing can be one
        return False
    from mnist_lab.spaces.keras_tuner import check_hypermodel, is_hypermodel

    if not is_hypermodel(value):
        return False
    check_hypermodel(value, name=name)
    return True


def _open_hypermodel(value: Any, ask: Ask, name: str) -> Author:
    from mnist_lab.spaces.keras_tuner import open_hypermodel

    return open_hypermodel(value, ask, name=name)


def _digest_module(value: Any) -> str:
    """Return the digest of the code of a package's space."""
    owner = value if inspect.isroutine(value) or isinstance(value, type) else type(value)
    try:
        return digest_sources(Path(inspect.getfile(owner)).resolve())
    except (TypeError, OSError):
        return ""


def _describe_in_own_process(reference: str) -> SearchSpace:
    data = run_description(reference)

    def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
        return load_space(reference).build(params, input_shape, classes)

    if not data.get("asks"):
        return SearchSpace.from_dict(data, build=build)
    return asking_space(
        lambda ask: _asking(load_space(reference)).open(ask),
        **{key: data[key] for key in ("name", "version", "description", "source", "sources")},
    )


def _asking(space: SearchSpace) -> AskingSpace:
    assert isinstance(space, AskingSpace)
    return space


def run_description(reference: str, *, builds: int = 0) -> dict[str, Any]:
    """Describe the space in a file, in a process of its own.

    The file may import Keras, and may do anything else; the supervisor must not. With ``builds`` the
    answer has a survey of so many builds.

    Raises:
        ConfigurationError: it is no space; the message is that of the exception.
    """
    path = locate_file(reference) if is_file_reference(reference) else None
    sources = digest_sources(path) if path is not None and path.is_file() else ""
    data: dict[str, Any] = json.loads(_run_description(reference, builds, sources, str(Path.cwd())))
    return data


@cache
def _run_description(reference: str, builds: int, sources: str, folder: str) -> str:
    """Return the description as JSON. A command asks for it several times, and each takes seconds.

    ``sources`` and ``folder`` say which file it is, and that it has not changed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "space.json"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "mnist_lab.spaces.describe",
                reference,
                str(answer),
                str(builds),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if not answer.exists():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ConfigurationError(
                f"{reference} is no search space: {reason}", safe="Nothing was trained."
            )
        text = answer.read_text()
    data = json.loads(text)
    if "problem" in data:
        raise ConfigurationError(
            f"{reference} is no search space: {data['problem']}",
            safe="Nothing was trained.",
            next_step=data["next_step"],
        )
    return text


def _spaces_in(module: Any) -> list[str]:
    """List the names defined by the file itself that may be a space."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, SearchSpace)
        or (getattr(value, "__module__", None) == module.__name__ and callable(value))
    ]
