"""A study in Python: what was found, as values, tables, pages, and the next step as a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lab.errors import MnistLabError
from mnist_lab.report import (
    LeaderboardRow,
    Mistakes,
    TrialComparison,
    differing_parameters,
    leaderboard,
)
from mnist_lab.settings import Settings
from mnist_lab.study import Confirmation, Ledger, open_study

if TYPE_CHECKING:
    import pandas as pd

    from mnist_lab.promotion import Promotion

SHOWN_ROWS, SHOWN_PARAMS = 10, 6


@dataclass(frozen=True)
class Study:
    """One study of a home folder. It is read anew at each use: a sweep may go on beside it.

    In a notebook it shows its leaderboard.
    """

    name: str
    settings: Settings

    @property
    def ledger(self) -> Ledger:
        """The study's typed records; ``ledger.study`` is Optuna's own study."""
        return open_study(self.settings, self.name)

    @property
    def leaderboard(self) -> list[LeaderboardRow]:
        """The complete trials, best first."""
        return leaderboard(self.ledger)

    @property
    def best(self) -> LeaderboardRow:
        """The best complete trial: ``best.params``, ``best.value``, ``best.run``.

        Raises:
            UnknownNameError: no trial is complete.
        """
        ledger = self.ledger
        number = ledger.find_trial("").number
        return next(row for row in leaderboard(ledger) if row.trial == number)

    def frame(self) -> pd.DataFrame:
        """Return every trial as a row: number, state, value, epochs, seconds, figures, parameters."""
        import pandas as pd

        from mnist_lab.study import STATES

        rows: list[dict[str, Any]] = [
            {
                "trial": trial.number,
                "state": STATES.get(trial.state, "waiting"),
                "value": trial.value,
                "epochs": len(trial.history),
                "reason": trial.reason,
                **trial.scalars,
                **{f"params_{name}": value for name, value in trial.params.items()},
            }
            for trial in self.ledger.trials()
        ]
        return pd.DataFrame(rows).set_index("trial") if rows else pd.DataFrame()

    def explain(self) -> Text:
        """Say in Markdown what was searched, found, is uncertain, and what to do next."""
        from mnist_lab.api.pages import explain_study
        from mnist_lab.report import explain

        return Text(explain(explain_study(self.ledger, self.settings)))

    def report(self) -> Page:
        """Write the HTML report into the home and MLflow; a notebook shows it.

        Raises:
            MnistLabError: the file cannot be written.
        """
        from mnist_lab.api.pages import write_pages

        pages = write_pages(self.ledger.name, self.settings)
        if not pages.report:
            raise MnistLabError(pages.trouble)
        return Page(Path(pages.report))

    def compare(self, *trials: int) -> TrialComparison:
        """Compare two trials or more, image by image where their predictions are there.

        Raises:
            UsageError, UnknownNameError: less than two, or one that is not there.
        """
        from mnist_lab.api.pages import compare_trials

        return compare_trials(self.ledger, [str(each) for each in trials], self.settings)[0]

    def mistakes(self) -> Mistakes:
        """Find the validation images that the best models miss, and suspected labels.

        Raises:
            UsageError: less than two models have left their predictions.
            DataError: the data are gone.
        """
        from mnist_lab.api.pages import find_mistakes

        return find_mistakes(self.ledger, self.settings)[0]

    def confirm(self, *, top: int = 5, **options: Any) -> Study:
        """Train the ``top`` best trials again, the better half of them twice, and return the study.

        Each training has a fresh seed and leaves out images on which it is then measured.

        Args:
            top: how many configurations.
            options: ``workers``, ``device``, ``executor``, ``dataset``, as ``sweep`` takes them.

        Raises:
            MnistLabError: none of them could be trained.
        """
        from mnist_lab.api.run import confirm_again

        confirm_again(self, top=top, **options)
        return self

    @property
    def confirmation(self) -> Confirmation | None:
        """The ranking by fresh trainings; None before ``confirm``."""
        from mnist_lab.study import read_confirmation

        return read_confirmation(self.ledger)

    def promote(self, *, ensemble: int = 1, force: bool = False) -> Promotion:
        """Put the confirmed choice before the gate of its registered model; it is trained for that.

        With ``ensemble`` the mean of so many trainings, at most 9, is registered as one model.

        Raises:
            MnistLabError: the study was not confirmed; it says what to do.
        """
        from mnist_lab.api.run import promote_again

        return promote_again(self, ensemble=ensemble, force=force)

    def __repr__(self) -> str:
        ledger = self.ledger
        best = next(iter(ledger.ranked()), None)
        said = f", best {best.value:.4f} (trial {best.number})" if best and best.value else ""
        return f"<Study {self.name}: {len(ledger.trials())} trials{said}>"

    def _repr_html_(self) -> str:
        rows = self.leaderboard
        head = f"<p><b>{escape(self.name)}</b>, {len(self.ledger.trials())} trials</p>"
        if not rows:
            return f"{head}<p>No trial has been trained to its end yet.</p>"
        names = differing_parameters(row.params for row in rows)[:SHOWN_PARAMS]
        titles = ["rank", "trial", rows[0].objective, "parameters", "seconds", *names]
        heads = "".join(f"<th>{escape(title)}</th>" for title in titles)
        body = "".join(_html_row(row, names) for row in rows[:SHOWN_ROWS])
        more = len(rows) - SHOWN_ROWS
        tail = f"<p>and {more} more: <code>study.frame()</code></p>" if more > 0 else ""
        return f"{head}<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{tail}"


def _html_row(row: LeaderboardRow, names: Sequence[str]) -> str:
    from mnist_lab.config import describe_value

    params = [row.params.get(name) for name in names]
    shown = ["" if p is None else f"{p:.3g}" if isinstance(p, float) else str(p) for p in params]
    cells = [
        str(row.rank),
        f"{row.trial}{' (baseline)' if row.baseline else ''}",
        describe_value(row.objective, row.value),
        f"{row.parameters:,}",
        f"{row.seconds:.1f}",
        *shown,
    ]
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


class Text(str):
    """Markdown: printed as it is, and rendered in a notebook."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Page:
    """An HTML page in a ``file``; a notebook shows it in a frame."""

    file: Path
    height: int = 700

    def _repr_html_(self) -> str:
        content = escape(self.file.read_text("utf-8"), quote=True)
        return (
            f'<iframe sandbox="allow-scripts" style="width:100%;height:{self.height}px;border:0" '
            f'srcdoc="{content}"></iframe>'
        )
