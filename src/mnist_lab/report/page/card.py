"""A model card as a page."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markupsafe import Markup

from mnist_lab.report.page.environment import render


def render_card(name: str, markdown: str) -> str:
    """Return the page of a card; HTML within its markdown is shown as text."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return render("card.html.j2", title=name, body=Markup(body))  # noqa: S704 - html is off
