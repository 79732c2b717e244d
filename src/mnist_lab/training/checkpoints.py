"""Checkpoints, from which an interrupted training goes on as if it had not been interrupted.

A checkpoint is a folder ``epoch-0003`` with ``arrays.npz``, ``state.json`` and ``manifest.json``. It is
written under another name, synced to the disk and then renamed, so one that has its name is whole
unless the disk damaged it, which the manifest's digests show.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
# The newest, and one to fall back to when that is damaged.
KEPT = 2
_ARRAYS, _STATE, _MANIFEST = "arrays.npz", "state.json", "manifest.json"
_UNFINISHED = ".writing-"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state after ``epoch`` (counted from 1): arrays by name, and whatever JSON can hold."""

    epoch: int
    arrays: Mapping[str, np.ndarray[Any, Any]]
    state: Mapping[str, Any]


class Damaged(Exception):
    """The error of a checkpoint that does not match its manifest, or is of another training."""


class Checkpoints:
    """The checkpoints of one training in ``folder``, the last two kept.

    ``identity`` names the training; a checkpoint of another identity is not loaded.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity

    def save(self, checkpoint: Checkpoint) -> None:
        """Write ``checkpoint`` whole, then drop all but the last two.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._drop_refused(checkpoint.epoch)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._folder))
        try:
            self._write(checkpoint, unfinished)
            unfinished.rename(self._folder / f"epoch-{checkpoint.epoch:04d}")
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _sync(self._folder)
        for old in list(self._newest_first())[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self) -> Checkpoint | None:
        """Return the newest whole checkpoint; None when there is none."""
        for folder in self._newest_first():
            with suppress(Damaged):
                return read_checkpoint(folder, self._identity)
        return None

    def _drop_refused(self, epoch: int) -> None:
        """Drop checkpoints of ``epoch`` and later, which ``load`` refused, and unfinished ones."""
        _drop_from(self._folder, f"epoch-{epoch:04d}")

    def _newest_first(self) -> Iterator[Path]:
        return iter(sorted(self._folder.glob("epoch-*"), reverse=True))

    def _write(self, checkpoint: Checkpoint, folder: Path) -> None:
        with (folder / _ARRAYS).open("wb") as file:
            np.savez(file, allow_pickle=False, **checkpoint.arrays)
        (folder / _STATE).write_text(json.dumps(dict(checkpoint.state)))
        manifest = {
            "format": FORMAT,
            "epoch": checkpoint.epoch,
            "identity": self._identity,
            "files": {name: _digest(folder / name) for name in (_ARRAYS, _STATE)},
        }
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        for name in (_ARRAYS, _STATE, _MANIFEST):
            _sync(folder / name)
        _sync(folder)


def write_copy(folder: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Write the ``files`` of a checkpoint made elsewhere as ``folder/name``, whole or not at all.

    The last two are kept, and what is left of that epoch and later ones is dropped, as by
    ``Checkpoints.save``.

    Raises:
        OSError: they cannot be written; what was there before is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _drop_from(folder, name)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
    try:
        for file, content in files.items():
            (unfinished / file).write_bytes(content)
            _sync(unfinished / file)
        _sync(unfinished)
        unfinished.rename(folder / name)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _sync(folder)
    for old in sorted(folder.glob("epoch-*"), reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(folder: Path, identity: str | None = None) -> Checkpoint:
    """Read and check one checkpoint; of any training when ``identity`` is None.

    Raises:
        Damaged: a file is missing or changed, or it is another training's.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        if manifest["format"] != FORMAT or identity not in (None, manifest["identity"]):
            raise Damaged(f"{folder} belongs to another training")
        for name, digest in manifest["files"].items():
            if _digest(folder / name) != digest:
                raise Damaged(f"{folder / name} is not what was written")
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            return Checkpoint(
                epoch=int(manifest["epoch"]),
                arrays=dict(arrays),
                state=json.loads((folder / _STATE).read_text()),
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder}: {error}") from error


def _drop_from(folder: Path, first: str) -> None:
    """Drop the checkpoints from the name ``first`` on, and unfinished ones."""
    for each in folder.glob("epoch-*"):
        if each.name >= first:
            shutil.rmtree(each)
    for half in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(half, ignore_errors=True)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
