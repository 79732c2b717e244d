"""The Python API behind ``import mnist_lab``: a facade over the calls that the commands make."""

from mnist_lab.api.model import Model
from mnist_lab.api.pages import (
    Pages,
    compare_trials,
    explain_study,
    find_mistakes,
    write_pages,
)
from mnist_lab.api.run import confirm_study, promote_study, run_sweep, sweep_space
from mnist_lab.api.study import Page, Study, Text

__all__ = [
    "Model",
    "Page",
    "Pages",
    "Study",
    "Text",
    "compare_trials",
    "confirm_study",
    "explain_study",
    "find_mistakes",
    "promote_study",
    "run_sweep",
    "sweep_space",
    "write_pages",
]
