"""The choice of the champion: the gate, its decisions, aliases, the sealed test images."""

from mnist_lab.promotion.aliases import AliasEvent, find_holder, read_history, rollback
from mnist_lab.promotion.card import read_card
from mnist_lab.promotion.challenge import Challenge, read_all_challenges
from mnist_lab.promotion.contest import Train, model_name
from mnist_lab.promotion.decision import (
    PromotionRecord,
    describe_accuracies,
    describe_judgement,
)
from mnist_lab.promotion.gate import GatePolicy, read_policy
from mnist_lab.promotion.openings import count_openings_for
from mnist_lab.promotion.promote import Promotion, promote, require_promotable
from mnist_lab.promotion.sealed_test import evaluate_model, evaluate_on

__all__ = [
    "AliasEvent",
    "Challenge",
    "GatePolicy",
    "Promotion",
    "PromotionRecord",
    "Train",
    "count_openings_for",
    "describe_accuracies",
    "describe_judgement",
    "evaluate_model",
    "evaluate_on",
    "find_holder",
    "model_name",
    "promote",
    "read_all_challenges",
    "read_card",
    "read_history",
    "read_policy",
    "require_promotable",
    "rollback",
]
