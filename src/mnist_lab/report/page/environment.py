"""Templates into pages that need nothing but a browser: styles, script, data and pictures inline."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from mnist_lab import __version__
from mnist_lab.report.wording import describe_duration


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("mnist_lab.report.page", "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": lambda value: f"{value:.2%}",
        "count": lambda value: f"{value:,}",
        "duration": describe_duration,
        "param": lambda value: f"{value:.3g}" if isinstance(value, float) else str(value),
        "safe_svg": Markup,  # charts escape their own text
    }
    return made


def render(template: str, **facts: Any) -> str:
    """Render a template with styles and script inline."""
    folder = files("mnist_lab.report.page") / "templates"
    return (
        _environment()
        .get_template(template)
        .render(
            css=Markup((folder / "page.css").read_text("utf-8")),  # noqa: S704 - our own files
            script=Markup((folder / "page.js").read_text("utf-8")),  # noqa: S704
            version=__version__,
            **facts,
        )
    )


def inline_json(value: Any) -> Markup:
    """Return ``value`` as JSON that may stand in a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c"))  # noqa: S704 - escaped
