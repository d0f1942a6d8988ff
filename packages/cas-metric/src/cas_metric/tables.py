"""CSV, TSV, JSON and Parquet to columns of text, with the place of every row.

The one reader of every table that a user hands in: manifests, rankings, results. Nothing is
guessed, so that ``001`` and ``1`` stay two names.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import InputError
from cas_metric.files import is_local, read_text

if TYPE_CHECKING:
    import pandas as pd

TABLE_SUFFIXES: Final = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
#: What separates the columns where it is not commas, and what it is called.
SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}


#: Numbers as people and programs write them; NaN counts as one that is missing.
NUMBER: Final = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?inf|nan", re.IGNORECASE
)


@dataclass(frozen=True)
class Table:
    """A table before its columns mean anything. Missing cells are empty text.

    Attributes:
        path: Where it came from.
        columns: Name to cells, all of one length.
        places: Where each row stands, e.g. ``line 3``.
        unread: Columns that hold what is neither text, a number nor a date, such as lists: name to
            what is wrong. Whoever needs one of them refuses the table.
    """

    path: Path
    columns: dict[str, list[str]]
    places: list[str]
    unread: dict[str, str] = field(default_factory=dict)


def plain(text: str) -> str:
    """Text without blanks around it, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", text).strip()


def read_table(path: Path) -> Table:
    """Read a table by its suffix. Everything stays text: ``001`` and ``1.0`` as written.

    Raises:
        InputError: Unknown suffix, wrong encoding, not parseable, or without rows.
    """
    readers: dict[str, Callable[[Path], Table]] = {
        ".csv": lambda path: parse_csv(path, read_text(path)),
        ".tsv": lambda path: parse_csv(path, read_text(path), "\t"),
        ".jsonl": _read_jsonl,
        ".json": _read_json,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: a table cannot be read from {path.suffix or 'a file without suffix'}",
            fix=f"give a folder of images, or one of {', '.join(TABLE_SUFFIXES)}",
        )
    table = reader(path)
    if not table.places:
        raise InputError(f"{path}: the table has no rows", fix="write at least one")
    return table


def table_of(columns: Mapping[str, Sequence[Any]], source: str) -> Table:
    """A table from columns in memory.

    Args:
        columns: Name to cells, all of one length.
        source: What messages call it.

    Raises:
        InputError: No rows.
    """
    path = Path(source)
    count = len(next(iter(columns.values()), ()))
    if not count:
        raise InputError(f"{source}: the table has no rows", fix="write at least one")
    return _as_text(path, columns, [f"row {i + 1}" for i in range(count)])


def _as_text(path: Path, columns: Mapping[str, Sequence[Any]], places: list[str]) -> Table:
    """The table of columns whose cells are of any type."""
    table = Table(path, {}, places)
    for name, values in columns.items():
        cells = [cell_text(value) for value in values]
        if None in cells:
            row = cells.index(None)
            kind = type(values[row]).__name__
            where = f"{path}, {places[row]}, column {name!r}"
            table.unread[name] = f"{where}: holds a {kind}, not text, a number or a date"
        else:
            table.columns[name] = [cell for cell in cells if cell is not None]
    return table


def renamed(table: Table, columns: Mapping[str, str], known: Sequence[str]) -> Table:
    """The table with the columns named in ``columns`` (theirs to ours) under our names.

    Raises:
        InputError: A column that is not there, or one of ours that is not among ``known``.
    """
    for theirs, ours in columns.items():
        require_read(table, [theirs])
        if theirs not in table.columns:
            raise InputError(
                f"{table.path}: no column {theirs!r}",
                fix=f"its columns are {', '.join(table.columns)}",
            )
        if ours not in known:
            raise InputError(
                f"a manifest has no column {ours!r}", fix=f"choose from {', '.join(known)}"
            )
        if ours in table.columns and ours not in columns:
            raise InputError(
                f"{table.path}: {theirs!r} is to be {ours!r}, and there is a column {ours!r}",
                fix="drop or rename one of the two",
            )
    cells = {columns.get(name, name): values for name, values in table.columns.items()}
    return Table(table.path, cells, table.places, table.unread)


def require_read(table: Table, names: Iterable[str]) -> None:
    """Refuse a table of which a column that is needed holds what is no text.

    Raises:
        InputError: One of ``names`` is among :attr:`Table.unread`.
    """
    for name in names:
        if name in table.unread:
            raise InputError(table.unread[name], fix="write text")


def read_frame(path: Path, *columns: str, numeric: Sequence[str] = ()) -> pd.DataFrame:
    """A table as a data frame of text, but for the columns that are said to be numbers.

    Cells are in their :func:`plain` form, so that ``' A'`` is no other method than ``A``.

    Args:
        path: See :func:`read_table`.
        columns: Columns that must be there.
        numeric: Columns to read as numbers, where they are there; empty cells become NaN.

    Raises:
        InputError: No table, a missing column (those there are named), or a cell that is no number.
    """
    import pandas as pd

    if not path.is_file():
        raise InputError(f"{path}: no such file", fix="check the path")
    table = read_table(path)
    require_read(table, table.unread)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}", fix=f"it has {', '.join(table.columns)}"
        )
    cells = {name: list(map(plain, column)) for name, column in table.columns.items()}
    frame = pd.DataFrame(cells, dtype="str")
    for name in numeric:
        if name in frame:
            frame[name] = [
                _number(path, place, name, cell)
                for place, cell in zip(table.places, cells[name], strict=True)
            ]
    return frame


def numeric_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of text that hold numbers and nothing else, at least one."""
    return [name for name in frame if all(map(_is_number, frame[name])) and any(frame[name])]


def _is_number(cell: str) -> bool:
    return not cell or NUMBER.fullmatch(cell) is not None


def _number(path: Path, place: str, name: str, cell: str) -> float:
    if not _is_number(cell):
        raise InputError(
            f"{path}, {place}, column {name}: {cell!r} is no number",
            fix="write a number with a decimal point; leave the cell empty where there is none",
        )
    return float(cell) if cell else math.nan


def parse_csv(path: Path, text: str, separator: str = ",") -> Table:
    """The table in the text of a CSV file.

    Args:
        path: What messages call it.
        text: Its content; line breaks inside of quotes belong to the cell.
        separator: What stands between two cells.

    Raises:
        InputError: Not parseable; the message names the line.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    rows: list[tuple[str, ...]] = []
    places: list[str] = []
    try:
        header = _header(path, next((row for row in reader if any(row)), []), separator)
        for row in reader:
            if not any(map(str.strip, row)):  # a spreadsheet leaves rows of separators
                continue
            place = f"line {reader.line_num}"
            if len(row) != len(header):
                raise InputError(
                    f"{path}, {place}: {len(row)} fields where the header has {len(header)}",
                    fix='put text that contains commas or line breaks in "double quotes"',
                )
            rows.append(tuple(row))  # tuples of text, unlike lists, cost the collector nothing
            places.append(place)
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}", fix='check the "double quotes" there'
        ) from error
    cells = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
    return Table(path, dict(zip(header, cells, strict=True)), places)


def _header(path: Path, given: list[str], separator: str) -> list[str]:
    """The names of the columns, without the blanks that often follow a comma."""
    header = [name.strip() for name in given]
    if not header:
        raise InputError(f"{path}: the file is empty", fix="write a header and at least one row")
    for other, name in SEPARATORS.items():
        if len(given) == 1 and other != separator and other in given[0]:
            raise InputError(
                f"{path}: the columns are separated by {name}", fix="separate them by commas"
            )
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{path}: two columns are named {name!r}", fix="keep one of them")
    return header


def _read_jsonl(path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    # Not splitlines(): JSON text may hold other line separators of Unicode.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        rows.append(_json_row(path, place, _parse_json(f"{path}, {place}", line)))
        places.append(place)
    return _table_of_rows(path, rows, places)


def _read_json(path: Path) -> Table:
    """A list of objects, one a row."""
    values = _parse_json(str(path), read_text(path))
    if not isinstance(values, list):
        raise InputError(f"{path}: not a JSON list", fix='write [{"image": "…"}, …]')
    places = [f"row {number}" for number in range(1, len(values) + 1)]
    rows = [_json_row(path, place, value) for place, value in zip(places, values, strict=True)]
    return _table_of_rows(path, rows, places)


def _table_of_rows(path: Path, rows: list[dict[str, Any]], places: list[str]) -> Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return _as_text(path, {name: [row.get(name, "") for row in rows] for name in names}, places)


def _parse_json(where: str, text: str) -> Any:
    """A JSON value whose numbers keep their spelling: 1.0 and 10000000000000000001 survive."""
    try:
        return json.loads(
            text,
            parse_int=str,
            parse_float=str,
            parse_constant=float,
            object_pairs_hook=_unique_keys,
        )
    except (ValueError, RecursionError) as error:
        cause = str(error).split("\n")[0]
        raise InputError(
            f"{where}: not readable as JSON: {cause}", fix="write one object a line, or a list"
        ) from error


def _json_row(path: Path, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(
            f"{path}, {place}: not a JSON object", fix='write {"image": "…", "label": "…"}'
        )
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is given twice")
    return value


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(_seekable(path), page_checksum_verification=True) as file:
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


def _seekable(path: Path) -> Any:
    """What a reader of Parquet can seek in: the path, or a file at an address."""
    if is_local(path):
        return path
    from cas_metric.stores.remote import seekable

    return seekable(path)


def cell_text(value: Any) -> str | None:
    """A cell as text; None for what is neither text, a number nor a date.

    Missing values and NaN are empty. Whole numbers have no decimal point: a column of them becomes
    one of floats where some are missing, and its keys must stay those of a column without gaps.
    Dates are in ISO 8601, midnight without a time, as pandas has no other dates.

    Examples:
        >>> [cell_text(value) for value in (1234.0, 0.5, None, datetime(2024, 5, 1), [1])]
        ['1234', '0.5', '', '2024-05-01', None]
    """
    if value is None or (isinstance(value, float | Decimal) and math.isnan(value)):
        return ""
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return str(value) if isinstance(value, float) else f"{value:f}"
    if isinstance(value, datetime) and value.time() == time() and value.tzinfo is None:
        return value.date().isoformat()
    return value.isoformat() if isinstance(value, date | time) else None


def python_values(values: Iterable[Any]) -> list[Any]:
    """NumPy scalars as Python's, pandas' kinds of missing values as None."""
    import numpy as np
    import pandas as pd

    plain = (value.item() if isinstance(value, np.generic) else value for value in values)
    return [None if value is pd.NA or value is pd.NaT else value for value in plain]
