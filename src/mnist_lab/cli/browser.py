"""Pages opened in a browser, where there is one."""

from __future__ import annotations

import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

OpenPage = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]

# In a process of its own: the one that prints the address becomes the server.
_WAIT_AND_OPEN = """
import socket, sys, time, webbrowser
from urllib.parse import urlsplit
link = sys.argv[1]
host = urlsplit(link)
for _ in range(600):
    try:
        socket.create_connection((host.hostname, host.port or 80), timeout=1).close()
        webbrowser.open(link)
        break
    except OSError:
        time.sleep(0.1)
"""


def open_file(file: Path) -> None:
    """Open a page of this machine; say where it is if there is no browser."""
    if not _is_possible() or not webbrowser.open(file.resolve().as_uri()):
        typer.echo(f"There is no browser here. The page is {file}.", err=True)


def open_when_served(link: str) -> None:
    """Open an address as soon as it answers, within a minute."""
    if not _is_possible():
        typer.echo("There is no browser here: open the address elsewhere.", err=True)
        return
    subprocess.Popen([sys.executable, "-c", _WAIT_AND_OPEN, link], start_new_session=True)


def _is_possible() -> bool:
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True
