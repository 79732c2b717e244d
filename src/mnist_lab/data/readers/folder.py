"""Folders of pictures, and zips of them: a folder a class, or a table of file names and labels."""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from threading import Lock

import numpy as np

from mnist_lab.data.arrays import Unusable
from mnist_lab.data.pictures import SUFFIXES
from mnist_lab.data.readers.keys import part_of
from mnist_lab.data.readers.reader import Pictures, RawPart, Source
from mnist_lab.data.readers.table import label_column
from mnist_lab.data.splits import PartName

# Names of the hub's "imagefolder" first; others that people use.
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "labels.csv")
_FILE_COLUMNS = ("file_name", "filename", "file", "image", "path", "image_path", "id")
_HIDDEN = ("__MACOSX",)

ReadFile = Callable[[PurePosixPath], bytes]


class FolderReader:
    """``cat/1.jpg``, ``dog/2.jpg``; or ``train/cat/1.jpg``, ``test/…``; or a table beside pictures."""

    name = "a folder of pictures"

    def matches(self, path: Path) -> bool:
        if path.is_file():
            return path.suffix.lower() == ".zip"
        return any(_is_picture(each) for each in _walk(path))

    def read(self, path: Path) -> Source:
        if path.is_dir():
            return _read(list(_walk(path)), lambda name: (path / name).read_bytes())
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise Unusable(f"unreadable ({error})", "a whole zip of pictures") from error
        lock = Lock()  # a ZipFile has one place in its file

        def read(name: PurePosixPath) -> bytes:
            with lock:
                return archive.read(str(name))

        names = [PurePosixPath(each.filename) for each in archive.infolist() if not each.is_dir()]
        return _read(sorted(each for each in names if not _is_hidden(each)), read)


def _walk(folder: Path) -> Iterable[PurePosixPath]:
    """Yield the files below ``folder`` in order, but no hidden ones; linked folders are not entered."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            found = PurePosixPath(Path(root, name).relative_to(folder).as_posix())
            if not _is_hidden(found):
                yield found


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part in _HIDDEN for part in name.parts)


def _is_picture(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES


def _read(names: list[PurePosixPath], read: ReadFile) -> Source:
    tables = [name for name in names if name.name in TABLES]
    pictures = [name for name in names if _is_picture(name)]
    if not pictures:
        raise Unusable("no pictures", f"pictures ({', '.join(SUFFIXES[:5])}, …)")
    if tables:
        return _read_tables(tables, set(pictures), read)
    others = Counter(name.suffix.lower() or name.name for name in names if not _is_picture(name))
    left_out = sum(others.values())
    notes = (
        (f"{left_out:,} other files left out ({', '.join(sorted(others)[:5])})",)
        if left_out
        else ()
    )
    top = _common_folder(pictures)
    below: dict[PartName, list[tuple[PurePosixPath, str]]] = {}
    has_parts = all(
        part_of(name.parts[top]) is not None for name in pictures if len(name.parts) > top + 1
    )
    for name in pictures:
        inner = name.parts[top:]
        part = part_of(inner[0]) if has_parts and len(inner) > 1 else None
        inner = inner[1:] if part else inner
        if len(inner) < 2:
            raise Unusable(
                f"pictures that lie in no folder of a class, such as {name}",
                "a folder for each class, or a metadata.csv with file_name and label",
            )
        below.setdefault(part or "train", []).append((name, inner[0]))
    return Source(parts={part: _part(rows, read) for part, rows in below.items()}, notes=notes)


def _common_folder(pictures: list[PurePosixPath]) -> int:
    """Return how many folders all pictures share: a zip often has one around everything.

    The last of them stays if it is the folder of a class or part, that is, if it holds pictures.
    """
    depth = 0
    while True:
        heads = {name.parts[depth] for name in pictures if len(name.parts) > depth + 1}
        flat = any(len(name.parts) <= depth + 2 for name in pictures)
        if len(heads) != 1 or flat or part_of(next(iter(heads))):
            return depth
        depth += 1


def _part(rows: list[tuple[PurePosixPath, str]], read: ReadFile) -> RawPart:
    names = [name for name, _ in rows]
    return RawPart(
        images=Pictures(
            names=tuple(str(name) for name in names), read=lambda row: read(names[row])
        ),
        labels=np.array([label for _, label in rows]),
    )


def _read_tables(
    tables: list[PurePosixPath], pictures: set[PurePosixPath], read: ReadFile
) -> Source:
    below: dict[PartName, list[tuple[PurePosixPath, str]]] = {}
    for table in tables:
        rows = _rows(table, read)
        if not rows:
            raise Unusable(f"{table} without rows", "one row a picture")
        columns = list(rows[0])
        lower = {str(each).lower(): each for each in columns}
        file_column = next((lower[each] for each in _FILE_COLUMNS if each in lower), None)
        if file_column is None:
            raise Unusable(
                f"{table} with the columns {', '.join(columns[:8])}", "file_name and label"
            )
        split_column = next(
            (lower[each] for each in ("split", "set", "usage") if each in lower), None
        )
        label = label_column([e for e in columns if e not in (file_column, split_column)])
        for row in rows:
            name = table.parent / str(row[file_column])
            if ".." in name.parts or PurePosixPath(str(row[file_column])).is_absolute():
                raise Unusable(
                    f"{table} with a path that leaves the folder ({name})", "names of files in it"
                )
            if name not in pictures:
                raise Unusable(f"{table} with {name}, which is not there", "a picture for each row")
            said = row[split_column] if split_column else table.parent.name
            below.setdefault(part_of(str(said)) or "train", []).append((name, str(row[label])))
    return Source(parts={part: _part(rows, read) for part, rows in below.items()})


def _rows(table: PurePosixPath, read: ReadFile) -> list[dict[str, object]]:
    import io

    import pandas as pd

    content = io.BytesIO(read(table))
    try:
        if table.suffix == ".jsonl":
            return [
                json.loads(line) for line in content.read().decode().splitlines() if line.strip()
            ]
        frame = (
            pd.read_parquet(content)
            if table.suffix == ".parquet"
            else pd.read_csv(content, dtype=str)
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise Unusable(f"{table} unreadable ({error})", "a table of file_name and label") from error
    rows: list[dict[str, object]] = frame.to_dict("records")
    return rows
