"""Deciding: what becomes champion and why; using it; opening the sealed test set."""

from mnist_lab.registry.aliases import AliasEvent, read_history, rollback
from mnist_lab.registry.card import read_card
from mnist_lab.registry.decision import Decision
from mnist_lab.registry.gate import GatePolicy, read_policy
from mnist_lab.registry.models import VersionRow, list_versions
from mnist_lab.registry.promote import Promotion, promote
from mnist_lab.registry.testing import (
    TestResult,
    evaluate_model,
    evaluate_on,
    require_test_images,
)

__all__ = [
    "AliasEvent",
    "Decision",
    "GatePolicy",
    "Promotion",
    "TestResult",
    "VersionRow",
    "evaluate_model",
    "evaluate_on",
    "list_versions",
    "promote",
    "read_card",
    "read_history",
    "read_policy",
    "require_test_images",
    "rollback",
]
