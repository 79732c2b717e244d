"""The table of faults in CONTRIBUTING.md, held against the tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TABLE = re.findall(
    r"^\| (R?\d+) \| .* \| `(test_\w+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M
)
EXPECTED = [*map(str, range(1, 39)), *(f"R{row}" for row in range(1, 10))]
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
}


def test_every_fault_has_a_row():
    assert [row for row, _ in TABLE] == EXPECTED


@pytest.mark.parametrize(("row", "name"), TABLE)
def test_every_row_names_a_test_that_is_there(row, name):
    assert name in TESTS, f"row {row}"
