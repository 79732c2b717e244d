"""Deciding: promote a study's best model, list what is registered, open the sealed test set."""

from mnist_lab.registry.models import VersionRow, list_versions
from mnist_lab.registry.promote import Promotion, promote
from mnist_lab.registry.testing import TestResult, evaluate_model

__all__ = [
    "Promotion",
    "TestResult",
    "VersionRow",
    "evaluate_model",
    "list_versions",
    "promote",
]
