"""The Python API behind ``import mnist_lab``: a facade over the calls that the commands make."""

from mnist_lab.api.model import Model
from mnist_lab.api.pages import (
    Pages,
    compare_trials,
    explain_study,
    find_mistakes,
    write_pages,
    write_report,
)
from mnist_lab.api.run import sweep_space
from mnist_lab.api.study import Page, Study, Text

__all__ = [
    "Model",
    "Page",
    "Pages",
    "Study",
    "Text",
    "compare_trials",
    "explain_study",
    "find_mistakes",
    "sweep_space",
    "write_pages",
    "write_report",
]
