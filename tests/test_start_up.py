"""What a command may import: ``--help`` and ``spaces`` must answer without the heavy libraries."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROBE = """
import json, sys
sys.argv = ["mnist-lab", *{words!r}]
from mnist_lab.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})), file=sys.stderr)
"""
HEAVY = {"keras", "tensorflow", "mlflow", "sqlalchemy", "sklearn", "matplotlib", "scipy", "pandas"}


def modules_after(*words):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(words=list(words))],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["spaces"], ["spaces", "cnn"]], ids=" ".join)
def test_looking_imports_no_heavy_library(words):
    assert not HEAVY & modules_after(*words)


def test_help_imports_not_even_optuna_or_numpy():
    assert not {"optuna", "numpy"} & modules_after("--help")
