"""The names of studies: safe as file names, and the study of replicas beside a search."""

from __future__ import annotations

import re

from mnist_lab.config import SweepConfig
from mnist_lab.data import Dataset
from mnist_lab.errors import UsageError
from mnist_lab.spaces import SearchSpace

SUFFIX = "+confirm"
LONGEST_NAME = 100  # given by users; a study of replicas has the suffix beside it
_NAME = re.compile(r"[A-Za-z0-9][\w.+@-]{0,119}")


def is_safe_name(name: str) -> bool:
    """Return whether ``name`` may name files."""
    return bool(_NAME.fullmatch(name))


def study_name(config: SweepConfig, space: SearchSpace, dataset: Dataset) -> str:
    """Return the given name, or one that another space, data set or epoch count would change.

    Raises:
        UsageError: the given name cannot name files, or is that of a confirmation.
    """
    name = config.study or f"{dataset.name}-{space.id}-{config.epochs}ep"
    if not is_safe_name(name) or len(name) > LONGEST_NAME or is_confirmation(name):
        raise UsageError(
            f"{name[:80]!r} cannot name a study: letters, digits and . _ + @ - only, "
            f"{LONGEST_NAME} at most, and no {SUFFIX} at the end."
        )
    return name


def confirm_name(study: str) -> str:
    """Return the name of the Optuna study that has the replicas of ``study``."""
    return study + SUFFIX


def is_confirmation(name: str) -> bool:
    """Return whether ``name`` is that of a study of replicas."""
    return name.endswith(SUFFIX)


def searched_name(name: str) -> str:
    """Return the name of the study that ``name`` confirms; ``name`` itself for a search."""
    return name.removesuffix(SUFFIX)
