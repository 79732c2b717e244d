"""Parcels: files of a trial as bytes by name, which travel between the supervisor and other machines.

A parcel that comes from another machine is not trusted: ``unpack`` writes below the trial's folder, and
only what a trial leaves there.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from pathlib import Path, PurePosixPath

from mnist_lab.execution.files import ARTIFACTS, CHECKPOINTS, MODEL_FILE, PREDICTIONS
from mnist_lab.training import write_copy

Parcel = Mapping[str, bytes]


class RefusedParcel(Exception):
    """The error of a file that is none of a trial's, or would lie outside its folder."""


def pack_checkpoints(folder: Path, *, without: Container[str] = ()) -> dict[str, bytes]:
    """Pack the checkpoints of a trial's folder but those ``without``, by name (``epoch-0003``)."""
    found = sorted((folder / CHECKPOINTS).glob("epoch-*"))
    return dict(_read(folder, [each for each in found if each.name not in without]))


def pack_results(folder: Path) -> dict[str, bytes]:
    """Pack what a trial leaves at its end: artifacts, the figures' data, and the model."""
    return dict(_read(folder, [folder / name for name in (ARTIFACTS, PREDICTIONS, MODEL_FILE)]))


def pack_sources(files: list[Path], root: Path) -> dict[str, bytes]:
    """Pack the source files of a space, by their names below ``root``."""
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def checkpoints_in(parcel: Parcel) -> set[str]:
    """Return the names of the checkpoints of a parcel."""
    paths = [PurePosixPath(name).parts for name in parcel]
    return {parts[1] for parts in paths if parts[0] == CHECKPOINTS and len(parts) > 1}


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
