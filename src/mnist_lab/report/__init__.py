"""Reading studies: rows for tables, made from the ledger alone."""

from mnist_lab.report.compare import Comparison, compare
from mnist_lab.report.leaderboard import LeaderboardRow, leaderboard
from mnist_lab.report.studies import StudyRow, latest_study, list_studies
from mnist_lab.report.summary import (
    PruningReport,
    best_models,
    best_of_each,
    cut_off,
    report_pruning,
    study_state,
    summarise,
)

__all__ = [
    "Comparison",
    "LeaderboardRow",
    "PruningReport",
    "StudyRow",
    "best_models",
    "best_of_each",
    "compare",
    "cut_off",
    "latest_study",
    "leaderboard",
    "list_studies",
    "report_pruning",
    "study_state",
    "summarise",
]
