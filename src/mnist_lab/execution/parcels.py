"""Parcels: files of a trial as bytes by name, which travel between the supervisor and other machines.

A parcel that comes from another machine is not trusted: ``unpack`` writes below the trial's folder, and
only what a trial leaves there.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mnist_lab.execution.files import ARTIFACTS, CHECKPOINTS, MODEL_FILE, PREDICTIONS
from mnist_lab.training import write_copy

Parcel = Mapping[str, bytes]


class RefusedParcel(Exception):
    """The error of a file that is none of a trial's, or would lie outside its folder."""


def pack_checkpoints(
    folder: Path, *, without: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Pack the checkpoints of a trial but those ``without``, which ``checkpoints_in`` gives."""
    packed: dict[str, bytes] = {}
    for each in sorted((folder / CHECKPOINTS).glob("epoch-*")):
        parcel = dict(_read(folder, [each]))
        if checkpoints_in(parcel).items() - (without or {}).items():
            packed |= parcel
    return packed


def pack_results(folder: Path) -> dict[str, bytes]:
    """Pack what a trial leaves at its end: artifacts, the figures' data, and the model."""
    return dict(_read(folder, [folder / name for name in (ARTIFACTS, PREDICTIONS, MODEL_FILE)]))


def pack_sources(files: list[Path], root: Path) -> dict[str, bytes]:
    """Pack the source files of a space, by their names below ``root``."""
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def checkpoints_in(parcel: Parcel) -> dict[str, bytes]:
    """Return the checkpoints of a parcel, by name (``epoch-0003``), with a digest of each."""
    found: dict[str, Any] = defaultdict(hashlib.sha256)
    for name, content in sorted(parcel.items()):
        parts = PurePosixPath(name).parts
        if parts[0] == CHECKPOINTS and len(parts) > 1:
            found[parts[1]].update(content)
    return {name: digest.digest() for name, digest in found.items()}


def unpack(parcel: Parcel, folder: Path) -> None:
    """Write a trial's parcel into its folder; checkpoints whole and synced, before this returns.

    Raises:
        RefusedParcel: a name leaves the folder, or is none of a trial's files.
        OSError: a file cannot be written.
    """
    checkpoints: dict[str, dict[str, bytes]] = defaultdict(dict)
    others: dict[PurePosixPath, bytes] = {}
    for name, content in parcel.items():
        path = _require_inside(name)
        match path.parts:
            case (first, checkpoint, file) if first == CHECKPOINTS and checkpoint[:6] == "epoch-":
                checkpoints[checkpoint][file] = content
            case (first, _, *_) if first == ARTIFACTS:
                others[path] = content
            case (first,) if first in (PREDICTIONS, MODEL_FILE):
                others[path] = content
            case _:
                raise RefusedParcel(f"{name!r} is no file of a trial")
    for path, content in others.items():
        _write(folder / path, content)
    for checkpoint, files in sorted(checkpoints.items()):
        write_copy(folder / CHECKPOINTS, checkpoint, files)


def unpack_sources(parcel: Parcel, folder: Path) -> None:
    """Write the source files of a space below ``folder``.

    Raises:
        RefusedParcel: a name leaves the folder.
    """
    for name, content in parcel.items():
        _write(folder / _require_inside(name), content)


def _require_inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise RefusedParcel(f"{name!r} leaves the trial's folder")
    return path


def _read(folder: Path, paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                yield file.relative_to(folder).as_posix(), file.read_bytes()


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_bytes(content)
    os.replace(unfinished, file)  # noqa: PTH105 - the same, and it names both paths in its error
