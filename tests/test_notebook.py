"""The notebook, run as it stands."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from documents import ROOT

NOTEBOOK = ROOT / "experiments" / "notebook.ipynb"


@pytest.mark.slow  # two sweeps, a confirmation and a promotion on the whole MNIST
@pytest.mark.timeout(1200)
def test_every_cell_of_the_notebook_works(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOK, 4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1000, kernel_name="python3", resources=resources).execute()
    outputs = [cell.get("outputs", []) for cell in notebook.cells if cell.cell_type == "code"]
    kinds = {kind for found in outputs for each in found for kind in each.get("data", {})}
    assert {"text/html", "text/markdown"} <= kinds
    assert not [each for found in outputs for each in found if each.get("name") == "stderr"]


def test_the_notebook_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, 4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
