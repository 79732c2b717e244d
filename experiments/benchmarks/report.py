"""Tables and a picture from results.json.

    python experiments/benchmarks/report.py build/bench
    python experiments/benchmarks/report.py build/bench --target 0.988

``--target`` asks when searches that were run for something else first reached it.
Ratios are of an arm to D within a round, and their median is given. What was ended at its limit is a
lower bound, and so is a median that depends on one: both are written with ">=".
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter
from rich.console import Console
from rich.table import Table

Run = dict[str, Any]
FOLDER = Path("build/bench")  # where git does not look
NAMES = {
    "A": "Optuna + Keras, autolog",
    "A-": "Optuna + Keras, plain metrics",
    "A-start": "the same, from the space's starts",
    "B-hyperband": "KerasTuner Hyperband",
    "B-bayesian": "KerasTuner Bayesian",
    "C": "Ray Tune (ASHA, Optuna)",
    "D": "mnist-lab",
    "R": "mnist-lab, random search",
}
ROUND = ("cell", "family", "round")
MARKS = (60.0, 180.0, 300.0, 900.0)  # seconds of wall time after which searches are compared
OVERHEAD = (
    "overhead = (wall - sum of all epochs' seconds / trials at a time) / trials. An epoch's seconds "
    "are training and validation. Trials at a time are 1 in A and B, the cores in C and D, so cores "
    "that idle at a sweep's end count as overhead. start-up = from exec to the end of the first "
    "epoch, less that epoch's seconds. peak = the process tree's resident memory summed every 0.4 s."
)


@dataclass(frozen=True)
class Value:
    """A number, or the lower bound of one."""

    number: float
    bound: bool = False

    def __str__(self) -> str:
        digits = 2 if self.number < 10 else 1
        return f"{'>= ' if self.bound else ''}{self.number:.{digits}f}"


def seconds(run: Run) -> Value | None:
    """What the cell is about: time to the target, or to the end. None if the run failed."""
    if run["outcome"] == "failed":
        return None
    if run["cell"] == "target":
        return Value(run["reached_s"] or run["wall_s"], bound=run["outcome"] != "reached")
    return Value(run["wall_s"], bound=run["outcome"] != "ended")


def judge_again(run: Run, target: float) -> Run:
    """``run`` as if ``target`` had been its aim; unchanged if it was no search."""
    if run["cell"] != "target":
        return run
    if run["outcome"] == "failed":
        return {**run, "target": target}
    reached = next((since for since, _, _, value, _ in run["epochs"] if value >= target), None)
    # A search that was ended at a lower aim might have come to this one: it was cut off.
    outcome = "censored" if run["outcome"] == "reached" else run["outcome"]
    outcome = outcome if reached is None else "reached"
    return {**run, "target": target, "reached_s": reached, "outcome": outcome}


def best_at(run: Run, mark: float) -> Value:
    """Best validation accuracy in per cent ``mark`` seconds after exec; a bound where we ended the
    search before that."""
    seen = [100 * value for since, _, _, value, _ in run["epochs"] if since <= mark]
    return Value(max(seen, default=0.0), bound=run["wall_s"] < mark and run["outcome"] != "ended")


def percent(value: Value | None) -> str:
    return "" if value is None else f"{'>= ' if value.bound else ''}{value.number:.2f}"


def marks(runs: list[Run]) -> list[float]:
    """Those of ``MARKS`` that some search has lived to see."""
    return [mark for mark in MARKS if any(run["wall_s"] >= mark for run in runs)]


def middle(values: Iterable[Value]) -> Value | None:
    """The median: a bound if what the bounded values really are could raise it."""
    values = list(values)
    if not values:
        return None
    least = median(value.number for value in values)
    most = median(math.inf if value.bound else value.number for value in values)
    return Value(least, bound=least != most)


def ratios(runs: list[Run], arm: str) -> list[Value]:
    """``arm`` to D, in each round where D came to an end and the arm did not fail."""
    times = {(run["arm"], run["round"]): seconds(run) for run in runs}
    pairs = [(times.get((arm, each)), times.get(("D", each))) for each in rounds(runs)]
    return [
        Value(theirs.number / ours.number, theirs.bound)
        for theirs, ours in pairs
        if theirs is not None and ours is not None and not ours.bound
    ]


def rounds(runs: list[Run]) -> list[int]:
    return sorted({run["round"] for run in runs})


def engine_values(run: Run) -> list[float]:
    """Trials an hour, overhead and start-up in seconds, peak MiB, epochs seen, metric rows."""
    wall, first = run["wall_s"], run["epochs"][0]
    trained = sum(epoch[4] for epoch in run["epochs"]) / run["parallel"]
    return [
        run["trials"] / wall * 3600,
        (wall - trained) / run["trials"],
        first[0] - first[4],
        run["peak_rss_mib"],
        len(run["epochs"]),
        run["rows"].get("metrics", 0),
    ]


def make_table(runs: list[Run]) -> Table:
    """The table of one cell and family."""
    cell, family = runs[0]["cell"], runs[0]["family"]
    searching = cell == "target"
    aim = f", to {runs[0]['target']:.2%} validation accuracy" if searching else ""
    table = Table(title=f"{cell}, {family}{aim}", box=None, title_justify="left")
    names = ["n", "reached"] if searching else ["n"]
    names += ["median s", "min .. max", "to D's"]
    if searching:
        names += [f"% at {mark:.0f} s" for mark in marks(runs)]
    else:
        names += ["trials/h", "overhead s", "start-up s", "peak MiB", "epochs", "metric rows"]
    table.add_column("arm", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for arm in dict.fromkeys(run["arm"] for run in runs):
        mine = [run for run in runs if run["arm"] == arm]
        table.add_row(arm, *row(mine, ratios(runs, arm), marks(runs)))
    return table


def row(runs: list[Run], against: list[Value], at: list[float]) -> list[str]:
    """The cells of one arm; of a search with the best accuracies ``at`` so many seconds."""
    good = [run for run in runs if run["outcome"] != "failed"]
    times = sorted((seconds(run) for run in good), key=lambda each: each.number)
    cells = [str(len(good))]
    if runs[0]["cell"] == "target":
        cells.append(str(sum(run["outcome"] == "reached" for run in good)))
    spread = f"{times[0]} .. {times[-1]}" if times else ""
    cells += [str(middle(times) or "failed"), spread, str(middle(against) or "")]
    if runs[0]["cell"] == "target":
        cells += [percent(middle(best_at(run, mark) for run in good)) for mark in at]
    whole = [engine_values(run) for run in good if run["outcome"] == "ended" and run["epochs"]]
    if runs[0]["cell"] != "target" and whole:
        medians = [median(each) for each in zip(*whole, strict=True)]
        cells += [f"{value:.1f}" for value in medians[:3]]
        cells += [f"{value:.0f}" for value in medians[3:]]
    return cells


def one_line(run: Run) -> str:
    """What came of a run, while the others are yet to come."""
    best = max((epoch[3] for epoch in run["epochs"]), default=0.0)
    what = f"{run['cell']} {run['family']} round {run['round']} {run['arm']}"
    return f"{what}: {run['outcome']}, {seconds(run) or run['wall_s']} s, best {best:.4f}"


def draw(runs: list[Run], path: Path) -> None:
    """Best validation accuracy so far against wall time, a line for each search."""
    families = list(dict.fromkeys(run["family"] for run in runs))
    figure = Figure(figsize=(9, 4 * len(families)), layout="constrained")
    arms = list(dict.fromkeys(run["arm"] for run in runs))
    for family, axes in zip(
        families, figure.subplots(len(families), squeeze=False)[:, 0], strict=True
    ):
        mine = [run for run in runs if run["family"] == family and run["epochs"]]
        for run in mine:
            best, times, values = 0.0, [], []
            for since, _, _, value, _ in run["epochs"]:
                best = max(best, value)
                times.append(since)
                values.append(best)
            times.append(max(times[-1], run["wall_s"]))
            values.append(best)
            name = NAMES.get(run["arm"], run["arm"])
            label = name if run["round"] == mine[0]["round"] else None
            colour = f"C{arms.index(run['arm'])}"
            axes.step(times, values, where="post", lw=1, color=colour, label=label)
            axes.plot(times[-1], best, "." if run["outcome"] == "reached" else "|", color=colour)
        axes.axhline(mine[0]["target"], color="grey", lw=0.8, ls="--")
        least = mine[0]["target"] - 0.03  # where searches differ; all of them pass through the rest
        axes.set(
            xlabel="seconds since exec", ylabel="best validation accuracy so far", title=family
        )
        most = max(epoch[3] for run in mine for epoch in run["epochs"])
        axes.set(xscale="log", ylim=(least, most + 0.002))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))  # not powers of ten
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))  # beside the lines
    figure.savefig(path, dpi=110)


def show(results: dict[str, Any], out: Path, name: str = "") -> None:
    """Print every table; draw best_so_far.png, with ``name`` in its name, if there was a search."""
    console = Console()
    if not console.is_terminal:  # a log has room
        console = Console(width=130)
    runs = results["runs"]
    for key in dict.fromkeys((run["cell"], run["family"]) for run in runs):
        console.print(make_table([run for run in runs if (run["cell"], run["family"]) == key]))
        console.print()
    if any(run["cell"] != "target" for run in runs):
        console.print(OVERHEAD)
    for run in runs:
        if run["outcome"] == "failed":
            console.print(f"{one_line(run)}, exit code {run['code']}:", *run["tail"], sep="\n  ")
    searches = [run for run in runs if run["cell"] == "target"]
    if any(run["epochs"] for run in searches):
        picture = out / f"best_so_far{name}.png"
        draw(searches, picture)
        console.print(f"Picture: {picture}")
    console.print(f"Every measurement: {out / 'results.json'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--target", type=float, help="validation accuracy")
    options = parser.parse_args()
    results = json.loads((options.folder / "results.json").read_text())
    if options.target is not None:
        results["runs"] = [judge_again(run, options.target) for run in results["runs"]]
    show(results, options.folder, f"-{options.target:g}" if options.target else "")


if __name__ == "__main__":
    main()
