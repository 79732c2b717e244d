"""``python -m mnist_lab.spaces.describe FILE.py:NAME ANSWER BUILDS``: describe a space as JSON."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from mnist_lab.errors import MnistLabError
from mnist_lab.spaces.asking import AskingSpace
from mnist_lab.spaces.registry import load_space


def describe(reference: str, builds: int) -> dict[str, Any]:
    """Return the declaration as JSON-able data; of an ``AskingSpace`` also a survey."""
    space = load_space(reference)
    found = space.to_dict()
    if builds and isinstance(space, AskingSpace):
        from mnist_lab.spaces.survey import survey

        found["survey"] = survey(space, builds=builds)
    return found


if __name__ == "__main__":
    try:
        answer = describe(sys.argv[1], int(sys.argv[3]))
    except MnistLabError as error:
        answer = {"problem": error.problem, "next_step": error.next_step}
    except Exception as error:  # whatever the file raises when it is run
        place = traceback.extract_tb(error.__traceback__)[-1]
        line = error.lineno if isinstance(error, SyntaxError) else place.lineno
        file = error.filename if isinstance(error, SyntaxError) else place.filename
        said = error.msg if isinstance(error, SyntaxError) else error
        problem = f"{type(error).__name__}: {said} ({Path(str(file)).name}, line {line})"
        answer = {"problem": problem, "next_step": ""}
    Path(sys.argv[2]).write_text(json.dumps(answer, default=str))
