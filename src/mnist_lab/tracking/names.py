"""Names and values that MLflow accepts, made of any that users give.

MLflow refuses a parameter or metric whose name has other characters than letters, digits and
``_-. :/``, or reads like another path; and it refuses it late, when the trial has been trained.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping

LONGEST_NAME = 250
LONGEST_PARAM = 6000
LONGEST_TAG = 8000
_ALLOWED = re.compile(r"[\w.\- :/]+")
_DIGEST_LENGTH = 6


def safe_name(name: str) -> str:
    """Return ``name`` if MLflow takes it, else one that no other name becomes.

    The digest of the whole name is part of the new one, so that it does not depend on which other
    names a trial has: ``units (hidden)`` is ``units _hidden_-664624`` in every run.
    """
    if _ALLOWED.fullmatch(name) and len(name) <= LONGEST_NAME and _is_plain_path(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    readable = re.sub(r"^\.+|[^\w.\- :]+", "_", name)[: LONGEST_NAME - _DIGEST_LENGTH - 1]
    return f"{readable}-{digest}"


def renamed(names: Iterable[str]) -> dict[str, str]:
    """Map the safe name to the given one, for those of ``names`` that differ."""
    return {safe_name(name): name for name in names if safe_name(name) != name}


def describe_names(changed: Mapping[str, str], values: Mapping[str, object]) -> str:
    """Describe in markdown the changed names, and the ``values`` that are cut, for a run's page."""
    lines = [f"- `{safe}` is `{name}`" for safe, name in changed.items()]
    lines += [
        f"- the value of `{safe_name(name)}` is cut to {LONGEST_PARAM:,} characters; the study has it"
        for name, value in values.items()
        if len(str(value)) > LONGEST_PARAM
    ]
    return "\n".join(["Not as they are, because of MLflow's limits:", "", *lines]) if lines else ""


def names_tag(changed: Mapping[str, str]) -> str:
    """Return the changed names as JSON, as many of them as a tag can hold."""
    pairs = list(changed.items())
    while len(text := json.dumps(dict(pairs), ensure_ascii=False)) > LONGEST_TAG:
        pairs.pop()
    return text


def logged_model_name(name: str) -> str:
    """Replace the characters that MLflow refuses in the name of a logged model."""
    return re.sub(r"[/:.%\"']", "-", name)


def _is_plain_path(name: str) -> bool:
    """MLflow may make a file of the name, and takes none that means another path."""
    return posixpath.normpath(name) == name and not name.startswith(("..", "/")) and name != "."
