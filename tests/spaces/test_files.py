"""A space file and the files beside it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mnist_lab.errors import ConfigurationError
from mnist_lab.spaces.files import digest_sources, import_file, source_files


@pytest.fixture
def project(tmp_path):
    """A file that imports a module and a package beside it, one of them within a function."""
    folder = tmp_path / "project"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "__init__.py").write_text("from .deep import DEEP\n")
    (folder / "parts" / "deep.py").write_text("DEEP = 1\n")
    (folder / "blocks.py").write_text("WIDTH = 7\n")
    (folder / "unrelated.py").write_text("raise RuntimeError\n")
    (folder / "space.py").write_text(
        "import json\nfrom blocks import WIDTH\n\n"
        "def late():\n    import parts\n    return parts.DEEP\n"
    )
    return folder


def test_the_neighbours_of_a_file_are_found_also_those_that_a_function_imports(project):
    names = [str(file.relative_to(project)) for file in source_files(project / "space.py")]
    assert names == ["space.py", "blocks.py", "parts/__init__.py", "parts/deep.py"]


@pytest.mark.parametrize("name", ["space.py", "blocks.py", "parts/deep.py"])
def test_the_digest_changes_with_the_file_and_with_its_neighbours(project, name):
    before = digest_sources(project / "space.py")
    (project / name).write_text((project / name).read_text() + "# changed\n")
    assert digest_sources(project / "space.py") != before


def test_the_digest_does_not_change_with_a_file_that_is_not_imported(project):
    before = digest_sources(project / "space.py")
    (project / "unrelated.py").write_text("x = 1\n")
    assert digest_sources(project / "space.py") == before


def test_the_digest_is_the_same_wherever_the_folder_lies(project, tmp_path):
    before = digest_sources(project / "space.py")
    moved = project.rename(tmp_path / "elsewhere")
    assert digest_sources(moved / "space.py") == before


def test_a_file_finds_its_neighbours_from_any_folder(project, tmp_path):
    code = (
        "import sys; from pathlib import Path; from mnist_lab.spaces.files import import_file; "
        "found = import_file(Path(sys.argv[1])); print(found.WIDTH, found.late())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(project / "space.py")],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["7", "1"]


def test_two_files_with_neighbours_of_one_name_have_each_its_own(project, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "blocks.py").write_text("WIDTH = 9\n")
    (other / "space.py").write_text("from blocks import WIDTH\n")
    assert import_file(project / "space.py").WIDTH == 7
    assert import_file(other / "space.py").WIDTH == 9
    assert import_file(project / "space.py").WIDTH == 7


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no space file .*gone\.py"):
        import_file(tmp_path / "gone.py")


def test_a_file_with_a_syntax_error_has_a_digest_all_the_same(tmp_path):
    (tmp_path / "broken.py").write_text("def (:\n")
    assert source_files(tmp_path / "broken.py") == [tmp_path / "broken.py"]
