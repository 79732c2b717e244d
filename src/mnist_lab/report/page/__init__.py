"""The HTML report: one file that shows a study to readers who have nothing installed."""

from mnist_lab.report.page.card import render_card
from mnist_lab.report.page.compare import render_comparison
from mnist_lab.report.page.mistakes import render_mistakes
from mnist_lab.report.page.study import render_study

__all__ = ["render_card", "render_comparison", "render_mistakes", "render_study"]
