"""The pages of docs/, held against the product and its tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mnist_lab.spaces.registry import get_space

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CASES = re.findall(r"^\| .* \| `(test_\w+)` \|$", (DOCS / "cases.md").read_text(), re.M)
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
}


def test_every_kind_of_case_has_a_row():
    assert len(CASES) >= 30


@pytest.mark.parametrize("name", sorted(set(CASES)))
def test_every_case_names_a_test_that_is_there(name):
    assert name in TESTS


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_model_that_the_readme_brings_is_a_space_that_asks(tmp_path):
    text = (ROOT / "README.md").read_text()
    source = next(
        t for t in re.findall(r"```python\n(.*?)```", text, re.S) if "def build_model" in t
    )
    (tmp_path / "mine.py").write_text(source)
    space = get_space(f"{tmp_path}/mine.py:build_model")
    assert (space.id, space.asks) == ("mine-v1", True)
