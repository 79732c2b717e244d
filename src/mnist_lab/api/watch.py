"""Watching a sweep: a live table in a terminal or a notebook, plain lines elsewhere.

A terminal's and the plain lines go to standard error; a notebook's table is one display that changes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress as Bars
from rich.progress import TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnist_lab.config import VAL_ACCURACY
from mnist_lab.sweep import NewsKind, Progress

BAR_WIDTH = 24
DECODED_SHOWN = 100
LASTING = (NewsKind.FAILED, NewsKind.TRACKING, NewsKind.WAITING)  # lines that outlive the live view
NOTEBOOK_SECONDS = 0.5  # a display is sent to the browser whole


@dataclass(frozen=True)
class Watcher:
    """The listeners of a sweep: its progress, the sentence about its data, and their decoding."""

    listener: Callable[[Progress], None]
    announce: Callable[[str], None]
    decoding: Callable[[int, int], None]


@contextmanager
def watch() -> Iterator[Watcher]:
    """Yield listeners for a sweep, fit for where standard error goes."""
    if in_notebook():
        with _watch_in_notebook() as watcher:
            yield watcher
        return
    console = Console(stderr=True)

    def announce(sentence: str) -> None:
        wraps_by_itself = not console.is_terminal  # a line of a file is a line
        console.print(sentence, markup=False, highlight=False, soft_wrap=wraps_by_itself)

    if not console.is_terminal:
        yield Watcher(plain_listener(console), announce, lambda done, total: None)
        return
    waiting = Text("starting workers (importing TensorFlow takes some seconds) …", style="dim")
    with Live(waiting, console=console, refresh_per_second=4, transient=True) as live:

        def tell(progress: Progress) -> None:
            news = progress.news
            if news is not None and news.kind in LASTING:
                style = "red" if news.kind is NewsKind.FAILED else "yellow"
                live.console.print(news.text, style=style, markup=False)
            live.update(render(progress))

        def decoding(done: int, total: int) -> None:
            if done % DECODED_SHOWN == 0:
                live.update(Text(f"decoding pictures: {done:,} of {total:,}", style="dim"))

        yield Watcher(tell, announce, decoding)


def in_notebook() -> bool:
    """Return whether this process is a notebook's kernel; rich takes that for no terminal."""
    loaded = sys.modules.get(
        "IPython"
    )  # a kernel has imported it; importing it takes half a second
    shell = loaded.get_ipython() if loaded is not None else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def _watch_in_notebook() -> Iterator[Watcher]:
    from IPython.display import HTML, display

    handle = display(HTML("<p>starting workers …</p>"), display_id=True)  # type: ignore[no-untyped-call]
    said: list[str] = []
    shown = [0.0]

    def show(body: str) -> None:
        lines = "".join(f"<p>{escape(line)}</p>" for line in said)
        handle.update(HTML(f"{lines}{body}"))  # type: ignore[no-untyped-call]

    def tell(progress: Progress) -> None:
        news = progress.news
        if news is not None and news.kind in LASTING:
            said.append(news.text)
        now = time.monotonic()
        if news is not None or now - shown[0] > NOTEBOOK_SECONDS:
            shown[0] = now
            show(_html(progress))

    def announce(sentence: str) -> None:
        said.append(sentence)
        show("<p>starting workers …</p>")

    def decoding(done: int, total: int) -> None:
        if done % DECODED_SHOWN == 0:
            show(f"<p>decoding pictures: {done:,} of {total:,}</p>")

    yield Watcher(tell, announce, decoding)


def _html(progress: Progress) -> str:
    """The live view as HTML: the headline, and a row for each running trial."""
    rows = "".join(
        f"<tr><td>{trial}</td><td>{last.epoch if last else 0}/{progress.epochs}</td>"
        f'<td><progress max="{progress.epochs}" value="{last.epoch if last else 0}"></progress></td>'
        f"<td>{f'{last.value:.4f}' if last else '…'}</td>"
        f"<td>{f'{last.seconds:.1f}' if last else '…'}</td></tr>"
        for trial, last in progress.running.items()
    )
    head = "".join(
        f"<th>{name}</th>" for name in ("trial", "epoch", "", _measured(progress), "s/epoch")
    )
    table = f"<table><tr>{head}</tr>{rows}</table>" if rows else ""
    return f"<p>{escape(_headline(progress).plain)}</p>{table}"


@contextmanager
def count_decoded() -> Iterator[Callable[[int, int], None]]:
    """Yield a listener for the decoding of pictures: a bar in a terminal, silence elsewhere."""
    with count_up() as tell:
        yield lambda done, total: tell("pictures", done, total)


@contextmanager
def count_up() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a listener for ``sync``: a bar in a terminal, silence elsewhere."""
    console = Console(stderr=True)
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(study: str, done: int, total: int) -> None:
            if study not in tasks:
                tasks[study] = bar.add_task(study, total=total)
            bar.update(tasks[study], completed=done)

        yield tell


def plain_listener(console: Console) -> Callable[[Progress], None]:
    """Make a listener that prints each news in a line, with the seconds since the sweep began."""
    began = time.monotonic()

    def tell(progress: Progress) -> None:
        if progress.news is not None:
            seconds = time.monotonic() - began
            counts = f"[{progress.finished}/{progress.total}]"
            console.print(
                f"{seconds:7.1f} s {counts} {progress.news.text}", markup=False, soft_wrap=True
            )

    return tell


def render(progress: Progress) -> Group:
    """Render the live view: a line for the study, a row for each running trial."""
    rows = Table(box=None, pad_edge=False)
    for name in ("trial", "epoch", "", _measured(progress), "s/epoch"):
        rows.add_column(name, justify="left" if not name else "right")
    for trial, last in progress.running.items():
        done = last.epoch if last else 0
        rows.add_row(
            str(trial),
            f"{done}/{progress.epochs}",
            ProgressBar(total=progress.epochs, completed=done, width=BAR_WIDTH),
            f"{last.value:.4f}" if last else "…",
            f"{last.seconds:.1f}" if last else "…",
        )
    return Group(_headline(progress), rows)


def _measured(progress: Progress) -> str:
    """The objective's name, as the first epoch that was heard of says it."""
    return next((last.objective for last in progress.running.values() if last), VAL_ACCURACY)


def _headline(progress: Progress) -> Text:
    line = Text.assemble(
        (progress.study, "bold"),
        f"  {progress.finished}/{progress.total}  ",
        (f"{progress.complete} complete", "green"),
        f"  {progress.pruned} pruned  ",
        (f"{progress.failed} failed", "red" if progress.failed else "default"),
    )
    if progress.best is not None and progress.best[1] is not None:
        line.append(f"  best {progress.best[1]:.4f} (trial {progress.best[0]})", style="cyan")
    if progress.seconds_left is not None:
        minutes, seconds = divmod(int(progress.seconds_left), 60)
        line.append(f"  {minutes}:{seconds:02d} left", style="dim")
    return line
