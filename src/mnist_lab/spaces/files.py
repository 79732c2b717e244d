"""The source file of a space: imported with its neighbours, and identified by their digest."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mnist_lab.errors import ConfigurationError


def import_file(path: Path) -> ModuleType:
    """Run ``path`` as a module that can import the modules beside it.

    Raises:
        ConfigurationError: there is no such file.
    """
    if not path.is_file():
        raise ConfigurationError(f"There is no space file {path}.")
    _prefer_neighbours(path)
    spec = importlib.util.spec_from_file_location(f"mnist_lab_space_{path.stem}", path)
    assert spec is not None, "a .py file always has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def defined_names(path: Path) -> list[str]:
    """Return the functions, classes and variables at the top of a file; none if it cannot be read."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError):
        return []
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [each.id for each in node.targets if isinstance(each, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def digest_sources(path: Path) -> str:
    """Return the sha256 of ``path`` and of the modules beside it that it imports, with their names."""
    content = hashlib.sha256()
    for file in source_files(path):
        # Names, because a file that is exchanged for another of its neighbours is another space.
        content.update(str(file.relative_to(path.parent)).encode() + b"\0")
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()


def source_files(path: Path) -> list[Path]:
    """Return ``path`` and the files of its folder that it imports, directly or not.

    Read from the text, functions included, so that every process finds the same files.
    """
    found, waiting = [path], [path]
    while waiting:
        for file in _neighbours(waiting.pop(), path.parent):
            if file not in found:
                found.append(file)
                waiting.append(file)
    return [path, *sorted(found[1:])]


def _neighbours(file: Path, folder: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # Python reports it when the file is run
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module_files(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            start = folder if not node.level else file.parents[node.level - 1]
            words = node.module.split(".") if node.module else []
            yield from _module_files(start, words)
            for alias in node.names:
                yield from _module_files(start, [*words, alias.name])


def _module_files(folder: Path, words: list[str]) -> Iterator[Path]:
    """Yield the files that Python runs for the module ``words``, if it lies in ``folder``."""
    for depth in range(1, len(words) + 1):
        stem = folder.joinpath(*words[:depth])
        for file in (stem / "__init__.py", stem.with_suffix(".py")):
            if file.is_file():
                yield file
                break


def _prefer_neighbours(path: Path) -> None:
    """Put the file's folder first on Python's path, and forget namesakes from other folders."""
    folder = str(path.parent)
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    for file in source_files(path)[1:]:
        top = file.relative_to(path.parent).parts[0].removesuffix(".py")
        known = getattr(sys.modules.get(top), "__file__", None)
        if known is not None and not Path(known).is_relative_to(path.parent):
            for name in [each for each in sys.modules if each.split(".")[0] == top]:
                del sys.modules[name]
