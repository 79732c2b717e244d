"""``python -m mnist_lab.spaces.describe FILE.py:NAME ANSWER``: write a space's declaration as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mnist_lab.spaces.registry import load_space

if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(load_space(sys.argv[1]).to_dict()))
