"""Every seed of a study: independent streams from one number (NumPy's ``SeedSequence``)."""

from __future__ import annotations

from zlib import crc32

import numpy as np

_REPLICA_STREAM = 11  # beside those of trials, which have no third word, and of parameters


def trial_seed(seed: int, trial: int) -> int:
    """Return a 31-bit seed for one trial, an independent stream (NumPy's ``SeedSequence``)."""
    return int(np.random.SeedSequence([seed, trial]).generate_state(1)[0] >> 1)


def replica_seed(seed: int, replica: int) -> int:
    """Return the seed of a replica, the same for all trials, and none that a search uses.

    So trials are compared seed by seed.
    """
    sequence = np.random.SeedSequence([seed, _REPLICA_STREAM, replica])
    return int(sequence.generate_state(1)[0] >> 1)


def draw_seed(seed: int, trial: int, parameter: str) -> int:
    """Return a seed as ``trial_seed``, for one parameter."""
    sequence = np.random.SeedSequence([seed, trial, crc32(parameter.encode())])
    return int(sequence.generate_state(1)[0] >> 1)
