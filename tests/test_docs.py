"""The pages of docs/, held against the product and its tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from documents import DOCS, PAGES, README, REFERENCE, ROOT, blocks, named, prose, typed
from mnist_lab.cli.app import app
from mnist_lab.spaces.registry import get_space

CASES = re.findall(r"^\| .* \| `(test_\w+)` \|$", (DOCS / "cases.md").read_text(), re.M)
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
}
COMMANDS = typer.main.get_command(app).commands
# Words of the code's past that mean nothing to a reader: see the glossary in CONTRIBUTING.md.
PRIVATE = re.compile(
    r"\b(ours|us|somebody|nobody|mend(?:s|ed|ing)?|cut off|fruitless|artists?|mirror|rival|"
    r"undertaking|hear|use_fast_kernels|crown|told)\b",
    re.IGNORECASE,
)
COG = [str(Path(sys.executable).parent / "cog"), "--check", "--diff", str(REFERENCE)]


def test_every_kind_of_case_has_a_row():
    assert len(CASES) >= 30


@pytest.mark.parametrize("name", sorted(set(CASES)))
def test_every_case_names_a_test_that_is_there(name):
    assert name in TESTS


@pytest.mark.parametrize("page", [*PAGES, REFERENCE], ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_this_repository_that_a_page_names_is_there(page):
    for path in re.findall(
        r"(?<!#/)\b((?:src|experiments|docs|tests|docker)/[\w./-]*\w)", page.read_text()
    ):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_a_page_that_a_person_wrote(name):
    shown = {words for page in PAGES for words in (*typed(page), *named(page))}
    assert any(words.split()[:2] == ["mnist-lab", name] for words in shown)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_in_the_reference(name):
    section = re.search(
        rf"^## mnist-lab {name}\n(.*?)(?=^## |\Z)", REFERENCE.read_text(), re.M | re.S
    )
    shown = [each for each in COMMANDS[name].params if not getattr(each, "hidden", False)]
    options = [option for each in shown for option in each.opts]
    for option in options:
        if option.startswith("--"):
            assert re.search(rf"^  (-\w, )?{option}\b", section.group(1), re.M), option


@pytest.mark.parametrize("terminal", [
    {"COLUMNS": "40", "TERM": "xterm-256color", "FORCE_COLOR": "1"},
    {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"},
], ids=["narrow and coloured", "wide and plain"])  # fmt: skip
def test_the_reference_is_what_help_says_on_any_terminal(terminal):
    done = subprocess.run(
        COG, env={**os.environ, **terminal}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"Type: make docs\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_in_plain_words(page):
    assert PRIVATE.findall(prose(page)) == []


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_every_page_is_reached_from_the_readme(page):
    assert f"(docs/{page.name})" in README.read_text()


def test_pictures_are_shown_and_small():
    text = "".join(page.read_text() for page in PAGES)
    for picture in (DOCS / "pictures").iterdir():
        assert f"pictures/{picture.name})" in text
        assert picture.stat().st_size < 200_000


@pytest.mark.slow
def test_the_model_that_the_documents_bring_is_a_space_that_asks(tmp_path):
    source = next(t for _, t in blocks(DOCS / "your-models.md") if "def build_model" in t)
    (tmp_path / "mine.py").write_text(source)
    space = get_space(f"{tmp_path}/mine.py:build_model")
    assert (space.id, space.asks) == ("mine-v1", True)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
