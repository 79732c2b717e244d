"""Every seed of a study: independent streams from one number (NumPy's ``SeedSequence``)."""

from __future__ import annotations

from zlib import crc32

import numpy as np

_PART_STREAM = 13  # beside those of trials, which have no third word, and of parameters


def trial_seed(seed: int, trial: int) -> int:
    """Return a 31-bit seed for one trial, an independent stream (NumPy's ``SeedSequence``)."""
    return int(np.random.SeedSequence([seed, trial]).generate_state(1)[0] >> 1)


def part_seed(seed: int, part: int, round_: int) -> int:
    """Return the seed of a replica without ``part`` in a round, the same for all trials of a study.

    No search uses it.
    """
    sequence = np.random.SeedSequence([seed, _PART_STREAM, part, round_])
    return int(sequence.generate_state(1)[0] >> 1)


def draw_seed(seed: int, trial: int, parameter: str) -> int:
    """Return a seed as ``trial_seed``, for one parameter."""
    sequence = np.random.SeedSequence([seed, trial, crc32(parameter.encode())])
    return int(sequence.generate_state(1)[0] >> 1)
