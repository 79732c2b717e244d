"""The table of rooms, held against the imports."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mnist_lab

ROOT = Path(mnist_lab.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"


@dataclass(frozen=True)
class Room:
    packages: set[str]
    doors: set[str]


def read_rooms() -> dict[str, Room]:
    """The table of CONTRIBUTING.md, bottom to top."""
    rows = re.findall(
        r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|([^|]*)\|$", CONTRIBUTING.read_text(), re.MULTILINE
    )
    words = [
        (name, set(re.findall(r"\w+", may)), set(re.findall(r"\w+", doors)))
        for name, _, may, doors in rows
    ]
    return {name: Room(packages=may, doors=doors) for name, may, doors in words}


ROOMS = read_rooms()
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
            assert package in ROOMS[room_of(path)].packages, f"{path.name} imports {module}"


def test_every_room_stands_in_the_table_of_contributing():
    found = {room_of(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"}
    assert found == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_other_rooms_are_imported_by_their_doors(path):
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
    for module in (node.module or "" for node in nodes):
        _, room, inner = [*module.split("."), "", ""][:3]
        if module.startswith("mnist_lab.") and room != room_of(path) and inner:
            assert inner in ROOMS[room].doors, (
                f"{path.name} imports {module}, past the door of {room}"
            )


def test_no_module_imports_itself_by_way_of_others():
    modules = {module_of(path): path for path in FILES if path.name != "__init__.py"}
    graph = {
        module: {each for each, is_top in imports_of(path) if is_top and each in modules}
        for module, path in modules.items()
    }
    order = list(TopologicalSorter(graph).static_order())  # or CycleError, which names the circle
    assert set(order) == set(modules)


# Files that are nothing without Keras, and are themselves imported inside functions only.
KERAS_FILES = {
    "mnist_lab.training.graph",
    "mnist_lab.training.kernels",
    "mnist_lab.training.schedule",
    "mnist_lab.training.written",
}


def module_of(path: Path) -> str:
    return ".".join(("mnist_lab", *path.relative_to(ROOT).with_suffix("").parts))


def test_files_that_import_keras_at_their_top_are_imported_inside_functions_only():
    for path in FILES:
        at_top = {module for module, is_top in imports_of(path) if is_top}
        assert not at_top & KERAS_FILES or module_of(path) in KERAS_FILES, path


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


def test_tensorflow_is_imported_in_three_files_only():
    importers = {
        path.name
        for path in FILES
        if any(module.split(".")[0] == "tensorflow" for module, _ in imports_of(path))
    }
    assert importers == {"runtime.py", "graph.py", "kernels.py"}


def test_keras_tuner_is_imported_in_one_file_only():
    importers = {
        str(path.relative_to(ROOT))
        for path in FILES
        if any(module.split(".")[0] == "keras_tuner" for module, _ in imports_of(path))
    }
    assert importers == {"spaces/keras_tuner.py"}


def test_only_promotion_can_open_the_sealed_test_images():
    importers = {
        room_of(path)
        for path in FILES
        if any(module.startswith("mnist_lab.data.sealed") for module, _ in imports_of(path))
    }
    assert importers == {"promotion"}


def test_only_the_data_room_reads_data_sets():
    importers = {
        room_of(path)
        for path in FILES
        if any(module.startswith("mnist_lab.data.readers") for module, _ in imports_of(path))
    }
    assert importers == {"data"}


def test_only_the_command_line_prints():
    for path in FILES:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        prints = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
        assert not prints or room_of(path) == "cli", path
