"""Pages and comparisons of a study, as commands and notebooks ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnist_lab.data import Dataset
from mnist_lab.errors import DataError, UsageError, first_line
from mnist_lab.report import (
    Mistakes,
    StudyReport,
    TrialComparison,
    compare,
    mistakes,
    read_kept,
    report_study,
)
from mnist_lab.settings import Settings
from mnist_lab.study import Ledger, load_original_dataset, open_study, read_confirmation
from mnist_lab.tracking import describe_trouble


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Where a study is to be looked at: the file of its report, and its view in MLflow's pages.

    ``trouble`` says why one of them is lacking, and what to type; empty if nothing went wrong.
    """

    report: str = ""
    link: str = ""
    trouble: str = ""


def write_pages(
    name: str, settings: Settings, *, tracked: bool = True, dataset: Dataset | None = None
) -> Pages:
    """Write the report of a study into the home and MLflow; never raises.

    Where MLflow is known to be away, nothing is ``tracked``. ``dataset`` is the study's, if it is
    loaded already.
    """
    again = f"Nothing else is lost. To write it, type: mnist-lab report {name}"
    from mnist_lab.publish import Origin, find_link, log_report, look_up, write_report

    try:
        study = open_study(settings, name)
        origin = look_up(study, settings) if tracked else Origin()
        file = write_report(study, settings, origin, dataset=dataset)
    except Exception as error:  # no page is a reason for a sweep to fail
        return Pages(trouble=f"The report was not written ({first_line(error)}). {again}")
    if not tracked:
        return Pages(report=str(file))
    try:
        log_report(study, file, settings, origin)
        link = find_link(study, settings)
    except Exception as error:
        return Pages(
            report=str(file),
            trouble=f"MLflow has no copy of the report ({describe_trouble(error)}). {again}",
        )
    return Pages(report=str(file), link=link)


def explain_study(study: Ledger, settings: Settings) -> StudyReport:
    """Gather what is said of a study, its champion included where MLflow answers."""
    from mnist_lab.publish import look_up

    return report_study(study, settings, champion=look_up(study, settings).champion)


def compare_trials(
    study: Ledger, trials: Sequence[str], settings: Settings, place: str | None = None
) -> tuple[TrialComparison, Dataset | None]:
    """Compare trials of a study; return the comparison, and the data if they are there.

    ``place`` says where the data lie now; they are looked for otherwise.

    Raises:
        UsageError, UnknownNameError: less than two trials, or one that is not there.
        DataError: the data are not at ``place``.
    """
    found = compare(study, trials)  # a wrong number is said before anything is read
    kept = read_kept(study, [study.find_trial(each) for each in trials], settings)
    if not kept:
        return found, None
    try:
        dataset = load_original_dataset(study.record, settings, place)
    except DataError:
        if place is not None:
            raise
        return found, None
    return compare(study, trials, kept=kept, dataset=dataset), dataset


def find_mistakes(
    study: Ledger, settings: Settings, place: str | None = None
) -> tuple[Mistakes, Dataset]:
    """Find what the good models of a study miss; return it, and the data.

    Raises:
        UsageError: less than two models have left their predictions.
        DataError: the data are gone.
    """
    dataset = load_original_dataset(study.record, settings, place)
    found = mistakes(study, settings, dataset)
    if found is None:
        confirmed = read_confirmation(study)
        more = f" --seeds {confirmed.seeds + 1}" if confirmed is not None else ""
        raise UsageError(
            f"Less than two trials of study {study.name!r} have left predictions to compare.",
            next_step="Those of earlier versions, and with keep_predictions = false, have none. To "
            f"train the best again, type: mnist-lab confirm {study.name}{more}",
        )
    return found, dataset
