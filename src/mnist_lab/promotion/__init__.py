"""The choice of the champion: the gate, its decisions, aliases, the sealed test images."""

from mnist_lab.promotion.aliases import AliasEvent, find_holder, read_history, rollback
from mnist_lab.promotion.card import read_card
from mnist_lab.promotion.decision import describe_comparison
from mnist_lab.promotion.gate import GatePolicy, read_policy
from mnist_lab.promotion.promote import Promotion, model_name, promote
from mnist_lab.promotion.sealed_test import evaluate_model, evaluate_on

__all__ = [
    "AliasEvent",
    "GatePolicy",
    "Promotion",
    "describe_comparison",
    "evaluate_model",
    "evaluate_on",
    "find_holder",
    "model_name",
    "promote",
    "read_card",
    "read_history",
    "read_policy",
    "rollback",
]
