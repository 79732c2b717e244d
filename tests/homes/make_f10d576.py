"""Writes tests/homes/f10d576.tar.xz: the home of a sweep as commit f10d576 left it.

    .venv/bin/python tests/homes/make_f10d576.py

Takes one to four minutes. The code of f10d576 runs from a git worktree, in this project's
environment. The worktree and the home lie in /tmp/lab while it runs, so that the home holds no other
path. All is done by the command line of f10d576:

1. ``sweep``: four trials of fnn-v2 on the bundled MNIST, one hidden layer of 32 units, three epochs.
2. ``sweep`` to five with a time limit that no trial can keep: trial 4 fails as ``timeout``.
3. ``confirm`` and ``promote``: two configurations, two seeds each; version 1 becomes the champion.
4. ``sweep`` to seven, and SIGKILL after the first epoch of trial 5: a running trial, its checkpoint.

Then the home is made small without a change to any record: the pictures (``*.png``) and the copy of
the data set that the killed sweep had laid out for its workers (47 MB) are deleted, and both
databases are vacuumed. The script refuses a home that names the machine, its user, or a folder
outside /tmp/lab. If it stops early, /tmp/lab stays to be looked at.

Trainings differ in the last digits from machine to machine. The tests read what they expect from the
home, but for this: trial 5 is the best once the study is resumed, so it can be promoted.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

COMMIT = "f10d576"
ROOT = Path(__file__).parents[2]
ARCHIVE = Path(__file__).with_name(f"{COMMIT}.tar.xz")
LAB = Path("/tmp/lab")
SOURCE, HOME = LAB / "source", LAB / "home"
SWEEP = (
    *("sweep", "fnn", "--study", "old", "--epochs", "3", "--workers", "1", "--keep-models", "1"),
    *("--set", "hidden_layers=1", "--set", "units_1=32", "--set", "batch_size=512"),
)
FEW = ("--top", "2", "--seeds", "2", "--workers", "1")
FOLDERS = "bin|etc|home|mnt|opt|root|srv|tmp|usr|var|work|Users"
FOREIGN_PATH = rf"(?<![\w.-])/(?!{LAB.relative_to('/')}/)(?:{FOLDERS})/[\w.+-]+"


def main() -> None:
    if LAB.exists():
        sys.exit(f"{LAB} exists: the home is written there. Remove it first.")
    HOME.mkdir(parents=True)
    git = ("git", "-C", str(ROOT), "worktree")
    subprocess.run([*git, "add", "--detach", str(SOURCE), COMMIT], check=True)
    try:
        write_home()
        make_small()
        refuse_names_of_this_machine()
        pack()
    finally:
        subprocess.run([*git, "remove", "--force", str(SOURCE)], check=True)
    shutil.rmtree(LAB)


def write_home() -> None:
    type_in(*SWEEP, "--trials", "4")
    type_in(*SWEEP, "--trials", "5", "--trial-timeout", "0.1")
    type_in("confirm", "old", *FEW)
    type_in("promote", "old", *FEW)
    kill_after("trial 5 epoch 1/3", *SWEEP, "--trials", "7")


def start(*words: str) -> subprocess.Popen[str]:
    """The command ``mnist-lab`` of f10d576, by a user who is called ``lab``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MNIST_LAB_", "MLFLOW_", "KERAS_"))
    }
    own = {"PYTHONPATH": str(SOURCE / "src"), "LOGNAME": "lab", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_lab", *words],
        cwd=HOME,
        env={**kept, **own},
        stderr=subprocess.PIPE,
        text=True,
    )


def type_in(*words: str) -> None:
    process = start(*words)
    _, said = process.communicate()
    if process.returncode:
        sys.exit(f"mnist-lab {' '.join(words)}: exit code {process.returncode}\n{said}")


def kill_after(event: str, *words: str) -> None:
    process = start(*words)
    for line in process.stderr or ():
        if event in line:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return
    sys.exit(f"{event!r} was never said")


def make_small() -> None:
    for picture in HOME.rglob("*.png"):
        picture.unlink()
    shutil.rmtree(HOME / ".mnist-lab/old/data")
    for name in ("optuna.db", "mlflow.db"):
        database = sqlite3.connect(HOME / name)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("VACUUM")
        database.close()


def refuse_names_of_this_machine() -> None:
    names = "|".join(map(re.escape, {socket.gethostname(), getpass.getuser()}))
    forbidden = re.compile(rf"(?<![\w.-])(?:{names})(?![\w-])|{FOREIGN_PATH}")
    for place, text in texts():
        if found := set(forbidden.findall(text)):
            sys.exit(f"{place} names this machine: {sorted(found)[:10]}")


def texts() -> Iterator[tuple[str, str]]:
    """The name and the text of every file, also of those within model files, with its place."""
    for file in sorted(each for each in HOME.rglob("*") if each.is_file()):
        yield str(file), str(file.relative_to(HOME))
        if file.suffix == ".db":
            database = sqlite3.connect(file)
            yield str(file), "\n".join(database.iterdump())
            database.close()
        elif zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as members:
                for member in members.namelist():
                    yield f"{file}:{member}", readable(members.read(member))
        else:
            yield str(file), readable(file.read_bytes())


def readable(content: bytes) -> str:
    """``content``, or what of it is a line of at least eight printable letters."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "\n".join(each.decode() for each in re.findall(rb"[ -~]{8,}", content))


def pack() -> None:
    def without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        archive.add(HOME, "home", filter=without_owner)
    sys.stdout.write(f"{ARCHIVE}: {ARCHIVE.stat().st_size / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
