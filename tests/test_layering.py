"""The table of rooms, held against the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mnist_lab

ROOT = Path(mnist_lab.__file__).parent

# A room imports only from rooms above it in this list; beside it, its third-party packages.
ROOMS = {
    "errors": set(),
    "settings": {"pydantic", "pydantic_settings"},
    "data": {"numpy"},
    "spaces": {"optuna", "keras", "keras_tuner", "numpy"},
    "training": {"numpy", "keras", "tensorflow"},
    "evaluation": {"numpy", "sklearn", "matplotlib"},
    "execution": {"keras", "psutil"},
    "tracking": {"mlflow", "numpy", "filelock", "sqlalchemy", "alembic"},
    "sweep": {"optuna", "numpy", "pydantic", "filelock", "scipy", "sqlalchemy"},
    "report": {"optuna", "rich"},
    "registry": {
        "mlflow",
        "keras",
        "optuna",
        "numpy",
        "scipy",
        "filelock",
        "h5py",
        "jinja2",
        "onnxruntime",
        "pydantic",
        "PIL",
    },
    "doctor": {"mlflow", "optuna", "packaging"},
    "cli": {"typer", "rich", "numpy", "mlflow", "optuna"},
}
ORDER = list(ROOMS)
STANDARD = {"__future__", *__import__("sys").stdlib_module_names}


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Every imported module of a file, and whether the import stands at its top level."""
    tree = ast.parse(path.read_text())
    top = set(tree.body)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found.append((module, node in top))
            # ``from mnist_lab.data import sealed`` names a module by its last word.
            found += [(f"{module}.{alias.name}", node in top) for alias in node.names]
    return found


FILES = sorted(path for path in ROOT.rglob("*.py") if room_of(path) in ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_the_rooms_above_it(path):
    mine = ORDER.index(room_of(path))
    for module, _ in imports_of(path):
        if module.startswith("mnist_lab.") and module.split(".")[1] in ORDER:
            assert ORDER.index(module.split(".")[1]) <= mine, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_its_own_third_party_packages(path):
    for module, _ in imports_of(path):
        package = module.split(".")[0]
        if package not in STANDARD and package != "mnist_lab":
            assert package in ROOMS[room_of(path)], f"{path.name} imports {module}"


# Files that are nothing without Keras, and are themselves imported inside functions only.
KERAS_FILES = {
    "mnist_lab.training.graph",
    "mnist_lab.training.schedule",
    "mnist_lab.training.written",
}


def module_of(path: Path) -> str:
    return ".".join(("mnist_lab", *path.relative_to(ROOT).with_suffix("").parts))


def test_files_that_import_keras_at_their_top_are_imported_inside_functions_only():
    for path in FILES:
        at_top = {module for module, is_top in imports_of(path) if is_top}
        assert not at_top & KERAS_FILES, path


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if module_of(path) not in KERAS_FILES],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_keras_is_never_imported_at_the_top_of_a_file(path):
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            heavy = {"keras", "tensorflow"} & {str(name).split(".")[0] for name in names}
            assert not heavy, f"{path.name} imports {heavy} at its top"


def test_tensorflow_is_imported_in_two_files_only():
    importers = {
        path.name
        for path in FILES
        if any(module.split(".")[0] == "tensorflow" for module, _ in imports_of(path))
    }
    assert importers == {"runtime.py", "graph.py"}


def test_keras_tuner_is_imported_in_one_file_only():
    importers = {
        str(path.relative_to(ROOT))
        for path in FILES
        if any(module.split(".")[0] == "keras_tuner" for module, _ in imports_of(path))
    }
    assert importers == {"spaces/keras_tuner.py"}


def test_only_the_registry_can_open_the_sealed_test_images():
    importers = {
        room_of(path)
        for path in FILES
        if any(module.startswith("mnist_lab.data.sealed") for module, _ in imports_of(path))
    }
    assert importers == {"registry"}


def test_only_the_data_room_can_read_files_of_images():
    importers = {
        room_of(path)
        for path in FILES
        if any(module.startswith("mnist_lab.data.files") for module, _ in imports_of(path))
    }
    assert importers == {"data"}


def test_only_the_command_line_prints():
    for path in FILES:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        prints = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
        assert not prints or room_of(path) == "cli", path
