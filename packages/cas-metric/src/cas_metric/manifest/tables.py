"""CSV, JSON Lines and Parquet to columns of text, with the place of every row."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cas_metric.errors import InputError
from cas_metric.manifest.text import read_text

TABLE_SUFFIXES: Final = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Table:
    """A table before its columns mean anything. Missing cells are empty text.

    Attributes:
        path: Where it came from.
        columns: Name to cells, all of one length.
        places: Where each row stands, e.g. ``line 3``.
    """

    path: Path
    columns: dict[str, list[str]]
    places: list[str]


def read_table(path: Path) -> Table:
    """Read a table by its suffix. Everything stays text: ``001`` and ``1.0`` as written.

    Raises:
        InputError: Unknown suffix, wrong encoding, not parseable, or without rows.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: a manifest cannot be read from {path.suffix or 'a file without suffix'}",
            fix="give a folder, .csv, .jsonl or .parquet",
        )
    table = reader(path)
    if not table.places:
        raise InputError(f"{path}: the table has no rows", fix="list at least one image")
    return table


def table_of(columns: Mapping[str, Sequence[Any]], source: str) -> Table:
    """A table from columns in memory.

    Args:
        columns: Name to cells, all of one length.
        source: What messages call it.

    Raises:
        InputError: No rows, or cells that are neither text nor numbers.
    """
    path = Path(source)
    count = len(next(iter(columns.values()), ()))
    if not count:
        raise InputError(f"{source}: the table has no rows", fix="list at least one image")
    places = [f"row {i + 1}" for i in range(count)]
    cells = {
        name: [_cell(path, place, name, v) for place, v in zip(places, values, strict=True)]
        for name, values in columns.items()
    }
    return Table(path, cells, places)


def _read_csv(path: Path) -> Table:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[list[str]] = []
    places: list[str] = []
    try:
        header = next((row for row in reader if row), [])
        _check_header(path, header)
        for row in reader:
            if not row:
                continue
            place = f"line {reader.line_num}"
            if len(row) != len(header):
                raise InputError(
                    f"{path}, {place}: {len(row)} fields where the header has {len(header)}",
                    fix='put text that contains commas or line breaks in "double quotes"',
                )
            rows.append(row)
            places.append(place)
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}", fix='check the "double quotes" there'
        ) from error
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    return Table(path, columns, places)


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise InputError(f"{path}: the file is empty", fix="list at least one image")
    if len(header) == 1:
        for name, separator in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|")):
            if separator in header[0]:
                raise InputError(
                    f"{path}: the columns are separated by {name}", fix="separate them by commas"
                )
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{path}: two columns are named {name!r}", fix="keep one of them")


def _read_jsonl(path: Path) -> Table:
    rows: list[dict[str, str]] = []
    places: list[str] = []
    # Not splitlines(): JSON text may hold other line separators of Unicode.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        rows.append(_parse_json(path, place, line))
        places.append(place)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name, "") for row in rows] for name in names}
    return Table(path, columns, places)


def _parse_json(path: Path, place: str, line: str) -> dict[str, str]:
    """One JSON object with text values; numbers keep their spelling."""
    try:
        # JSON's own text of a number is kept, so that 1.0 and 10000000000000000001 survive.
        value = json.loads(
            line,
            parse_int=str,
            parse_float=str,
            parse_constant=float,
            object_pairs_hook=_unique_keys,
        )
    except (ValueError, RecursionError) as error:
        cause = str(error).split("\n")[0]
        raise InputError(
            f"{path}, {place}: not readable as JSON: {cause}", fix="write one object a line"
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            f"{path}, {place}: not a JSON object", fix='write {"image": "…", "label": "…"}'
        )
    return {name: _cell(path, place, name, cell) for name, cell in value.items()}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is given twice")
    return value


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        table.validate(full=True)  # damaged text is found here rather than below
    except (pa.ArrowException, OSError, ValueError) as error:
        cause = str(error).split("\n")[0]
        raise InputError(
            f"{path}: not readable as Parquet: {cause}", fix="write the table again"
        ) from error
    names = table.column_names
    if len(set(names)) != len(names):
        raise InputError(f"{path}: two columns have the same name", fix="keep one of them")
    if not table.num_rows:
        return Table(path, {}, [])
    return table_of({name: table.column(name).to_pylist() for name in names}, str(path))


def _cell(path: Path, place: str, name: str, value: Any) -> str:
    """A cell as text: missing values and NaN are empty, whole numbers have no decimal point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not (isinstance(value, float) and math.isinf(value)):
        return str(value)
    raise InputError(
        f"{path}, {place}, column {name!r}: holds a {type(value).__name__}, not text or a number",
        fix="write text",
    )
