"""Tables: pixels in columns (CSV), encoded pictures in a column (parquet of the Hugging Face hub)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data.arrays import Unusable
from mnist_lab.data.dataset import SMALLEST_SIDE
from mnist_lab.data.readers.keys import part_of
from mnist_lab.data.readers.reader import Pictures, RawPart, Source
from mnist_lab.data.splits import PartName

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

LABEL_COLUMNS = ("label", "labels", "class", "target", "y", "category", "fine_label")
_CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz")
_PARQUET = ".parquet"
MUCH_MORE = 1.5  # times as frequent as the most frequent label


class CsvReader:
    """``label,pixel0,…`` or the same without a head; a folder of a train and a test file."""

    name = "a CSV of pixels"

    def matches(self, path: Path) -> bool:
        if path.is_dir():
            return any(part_of(each.name) and _is_of_pixels(each) for each in _csv_files(path))
        return path.name.lower().endswith(_CSV_SUFFIXES)

    def read(self, path: Path) -> Source:
        files = [e for e in _csv_files(path) if part_of(e.name)] if path.is_dir() else [path]
        parts: dict[PartName, RawPart] = {}
        notes = []
        for file in files:
            part = part_of(file.name) or "train" if path.is_dir() else "train"
            table = _read_csv(file)
            if part == "test" and math.isqrt(table.shape[1]) ** 2 == table.shape[1]:
                notes.append(f"{file.name} has no labels and is left out")
                continue
            if part in parts:
                raise Unusable(f"two files for {part}", "one file a part")
            parts[part] = _pixels_and_labels(table, file.name)
        if "train" not in parts:
            raise Unusable("no file for training", "a file with train in its name")
        return Source(parts=parts, shuffled=True, notes=tuple(notes))


class ParquetReader:
    """Files of the Hugging Face hub: one, or a folder of ``train-00000-of-00002.parquet`` and such."""

    name = "parquet files"

    def matches(self, path: Path) -> bool:
        return bool(_parquet_files(path))

    def read(self, path: Path) -> Source:
        import pyarrow as pa
        import pyarrow.parquet as pq

        shards: dict[PartName, list[pa.Table]] = {}
        for file in _parquet_files(path):
            try:
                table = pq.read_table(file)
            except (pa.ArrowException, OSError) as error:
                raise Unusable(
                    f"{file.name} unreadable ({error})", "whole parquet files"
                ) from error
            part = "train" if path.is_file() else part_of(file.name) or part_of(file.parent.name)
            shards.setdefault(part or "train", []).append(table)
        tables = {part: pa.concat_tables(each) for part, each in shards.items()}
        return _read_tables(tables)


def _read_tables(tables: Mapping[PartName, pa.Table]) -> Source:
    some = next(iter(tables.values()))
    picture = _picture_column(some)
    if picture is None:
        parts = {
            part: _pixels_and_labels(table.to_pandas(), part) for part, table in tables.items()
        }
        return Source(parts=parts, shuffled=True)
    features = _features(some)
    label = label_column([name for name in some.column_names if name != picture], features)
    names = features.get(label, {}).get("names")
    return Source(
        parts={
            part: RawPart(
                images=_pictures(table, picture, part),
                labels=table[label].to_numpy(zero_copy_only=False),
            )
            for part, table in tables.items()
        },
        class_names=tuple(str(each) for each in names) if names else None,
        shuffled=True,
    )


def label_column(names: list[str], features: Mapping[str, Any] | None = None) -> str:
    """Return the column of the classes: by its feature, its name, or because it is the only one.

    Raises:
        Unusable: none, or several.
    """
    lower = {name.lower(): name for name in reversed(names)}
    known = next((lower[each] for each in LABEL_COLUMNS if each in lower), None)
    classes = [
        name for name in names if (features or {}).get(name, {}).get("_type") == "ClassLabel"
    ]
    if known:
        return known
    if len(classes) == 1 or len(names) == 1:
        return (classes or names)[0]
    raise Unusable(f"the columns {', '.join(names[:8]) or 'none'}", "one named label")


def _picture_column(table: pa.Table) -> str | None:
    """Return the column of encoded pictures: bytes, or a struct with bytes."""
    from pyarrow import types

    for field in table.schema:
        if types.is_binary(field.type) or types.is_large_binary(field.type):
            return str(field.name)
        if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    return None


def _features(table: pa.Table) -> dict[str, Any]:
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    try:
        found = json.loads(metadata)["info"]["features"] if metadata else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, dict)}


def _pictures(table: pa.Table, column: str, part: str) -> Pictures:
    from pyarrow import types

    values = table[column].combine_chunks()
    if types.is_struct(values.type):
        values = values.field("bytes")
    if values.null_count:
        raise Unusable(
            f"{values.null_count} pictures that are paths only", "their bytes in the file"
        )
    return Pictures(
        names=tuple(f"{part}[{row}]" for row in range(len(values))),
        read=lambda row: bytes(values[row].as_py()),
    )


def _parquet_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == _PARQUET else []
    return sorted(each for each in path.rglob(f"*{_PARQUET}") if each.name != "metadata.parquet")


def _csv_files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.name.lower().endswith(_CSV_SUFFIXES))


def _is_of_pixels(path: Path) -> bool:
    """Return whether the first line has more columns than a table about pictures has."""
    import pandas as pd

    try:
        return bool(pd.read_csv(path, header=None, nrows=1, dtype=str).shape[1] > SMALLEST_SIDE**2)
    except (ValueError, OSError):
        return False


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    separator = "\t" if ".tsv" in path.name.lower() else ","
    try:
        first = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str).iloc[0]
        pixels = pd.to_numeric(first, errors="coerce").notna().sum()
        return pd.read_csv(path, sep=separator, header=None if pixels > len(first) / 2 else 0)
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise Unusable(f"{path.name} unreadable ({error})", "a CSV of labels and pixels") from error


def _pixels_and_labels(table: pd.DataFrame, name: str) -> RawPart:
    """Divide the columns: one of labels, and the pixels of square grey images, row by row."""
    pixels = table.shape[1] - 1
    if pixels < 1 or math.isqrt(pixels) ** 2 != pixels:
        colour = pixels % 3 == 0 and math.isqrt(pixels // 3) ** 2 == pixels // 3
        raise Unusable(
            f"{name} with {table.shape[1]} columns" + (", perhaps of colour" if colour else ""),
            "a label and the pixels of square grey images (785 columns for 28x28)",
            "Store colour images as an .npz: images (N, H, W, 3), labels (N,)." if colour else "",
        )
    label = _side_of_the_label(table, name)
    images = table.drop(columns=label).to_numpy()
    if images.dtype == object:
        raise Unusable(f"{name} with text among its pixels", "numbers in [0, 255]")
    labels: NDArray[Any] = table[label].to_numpy()
    return RawPart(images=images, labels=labels)


def _side_of_the_label(table: pd.DataFrame, name: str) -> Any:
    """Return the label's column: by its name; else the first or the last, if only one can be it.

    A corner of most images has one colour, and of labels none is so frequent.
    """
    for column in table.columns:
        if str(column).strip().lower() in LABEL_COLUMNS:
            return column
    sides = table.columns[0], table.columns[-1]
    for side in sides:
        if not np.issubdtype(table[side].to_numpy().dtype, np.number):
            return side
    first, last = (table[side].value_counts(normalize=True).iloc[0] for side in sides)
    if max(first, last) >= MUCH_MORE * min(first, last):
        return sides[0] if first < last else sides[1]
    raise Unusable(f"{name} with labels in its first or its last column", "a head that says label")
