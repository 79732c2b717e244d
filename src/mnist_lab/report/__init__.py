"""Reports on studies: rows for tables, made from the ledger alone."""

from mnist_lab.report.compare import TrialComparison, compare
from mnist_lab.report.leaderboard import LeaderboardRow, leaderboard
from mnist_lab.report.studies import latest_study, list_studies
from mnist_lab.report.summary import (
    best_models,
    best_of_each,
    interrupted_summary,
    report_pruning,
    summarise,
)

__all__ = [
    "LeaderboardRow",
    "TrialComparison",
    "best_models",
    "best_of_each",
    "compare",
    "interrupted_summary",
    "latest_study",
    "leaderboard",
    "list_studies",
    "report_pruning",
    "summarise",
]
