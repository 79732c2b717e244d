"""Reading studies: rows for tables, made from the ledger alone."""

from mnist_lab.report.compare import Comparison, compare
from mnist_lab.report.leaderboard import LeaderboardRow, leaderboard
from mnist_lab.report.studies import StudyRow, latest_study, list_studies

__all__ = [
    "Comparison",
    "LeaderboardRow",
    "StudyRow",
    "compare",
    "latest_study",
    "leaderboard",
    "list_studies",
]
