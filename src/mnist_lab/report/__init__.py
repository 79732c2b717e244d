"""Reports on studies: rows for tables, text and pages, made from the ledger and kept predictions."""

from mnist_lab.report.again import Reproduction, describe_reproduction
from mnist_lab.report.compare import TrialComparison, compare
from mnist_lab.report.explain import explain
from mnist_lab.report.images import ImageRow, Mistakes, PairRow, read_kept
from mnist_lab.report.leaderboard import (
    FIGURES,
    LeaderboardRow,
    ParetoFigure,
    differing_parameters,
    leaderboard,
)
from mnist_lab.report.noise import MoreTrials, Noise, advise, measure_noise
from mnist_lab.report.studies import latest_study, list_studies
from mnist_lab.report.study_report import StudyReport, mistakes, report_study
from mnist_lab.report.summary import (
    best_models,
    best_of_each,
    describe_study,
    interrupted_summary,
    report_pruning,
    summarise,
)
from mnist_lab.report.wording import (
    describe_difference,
    describe_duration,
    describe_ties,
    describe_warm_points,
)

__all__ = [
    "FIGURES",
    "ImageRow",
    "LeaderboardRow",
    "Mistakes",
    "MoreTrials",
    "Noise",
    "PairRow",
    "ParetoFigure",
    "Reproduction",
    "StudyReport",
    "TrialComparison",
    "advise",
    "best_models",
    "best_of_each",
    "compare",
    "describe_difference",
    "describe_duration",
    "describe_reproduction",
    "describe_study",
    "describe_ties",
    "describe_warm_points",
    "differing_parameters",
    "explain",
    "interrupted_summary",
    "latest_study",
    "leaderboard",
    "list_studies",
    "measure_noise",
    "mistakes",
    "read_kept",
    "report_pruning",
    "report_study",
    "summarise",
]
