"""Finding and reading the files of a data set, whatever the case and depth of its folders."""

from __future__ import annotations

import difflib
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cas_metric.datasets.base import Source
from cas_metric.errors import InputError
from cas_metric.files import read_text
from cas_metric.tables import parse_csv

if TYPE_CHECKING:
    import pandas as pd

#: Archives often unpack into a folder of their own name inside a folder of their own name.
_DEPTH = 6
_SHOWN = 5
#: A folder with more entries holds images or patients, and no table below it.
_CROWD = 1000


def require_folder(root: Path, source: Source) -> Path:
    """``root`` as an absolute path.

    Raises:
        InputError: It is no folder; says where the data set is obtained.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise InputError(f"{root} is no folder", fix=source.where)
    return root.resolve()


def find_file(root: Path, names: Sequence[str], source: Source) -> Path:
    """The file with one of ``names``, in any case, in ``root`` or the folders below it.

    Names earlier in the list win, then the least deep.

    Raises:
        InputError: There is none.
    """
    for name in names:
        for folder in _folders(root):
            for entry in _entries(folder):
                if entry.is_file() and entry.name.casefold() == name.casefold():
                    return Path(entry.path)
    raise InputError(f"{' or '.join(names)} was not found in {root}", fix=source.where)


def find_folder(root: Path, holds: Callable[[set[str]], bool]) -> Path | None:
    """The least deep folder whose entries, in lower case, satisfy ``holds``; None without one."""
    for folder in _folders(root):
        if holds({entry.name.casefold() for entry in _entries(folder)}):
            return folder
    return None


def find_images(root: Path, names: Sequence[str]) -> dict[str, Path]:
    """Paths below ``root`` of the named image files, compared without regard to case.

    Args:
        root: Folder to search, with everything below it but hidden folders.
        names: File names without folder, as the table of the data set gives them.

    Returns:
        The given name to its file; names that were not found are missing.
    """
    wanted = {name.casefold(): name for name in names}
    found: dict[str, Path] = {}
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for file in files:
            name = wanted.get(file.casefold())
            if name is not None:
                found.setdefault(name, Path(folder, file))
    return found


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file as text, every row checked against the header.

    Args:
        path: The file; ``.gz`` is unpacked on the way.
        columns: The columns to read, at least two; found whatever the case of their name.

    Returns:
        These columns as text, indexed by line number.

    Raises:
        InputError: It is no UTF-8 CSV, lacks a column, or a row has too many or too few cells;
            names the line.
    """
    import pandas as pd

    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else None
        text = read_text(path) if content is None else content.decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path} is no readable CSV: {error}", fix="download the file again"
        ) from None
    table = parse_csv(path, text)
    if not table.places:
        raise InputError(f"{path} holds a header but no rows", fix="download the file again")
    given = dict(
        zip(_header(path, list(table.columns), columns), table.columns.values(), strict=True)
    )
    lines = [int(place.removeprefix("line ")) for place in table.places]
    return pd.DataFrame({name: given[name] for name in columns}, index=lines, dtype=object)


def require_values(
    table: pd.DataFrame, column: str, allowed: Sequence[str], path: Path, *, shown: str = ""
) -> None:
    """Refuse a column that holds something else than ``allowed``.

    Raises:
        InputError: Names the first line and value.
    """
    wrong = table[~table[column].isin(allowed)]
    if len(wrong):
        raise InputError(
            f"{path}, line {wrong.index[0]}: {column} is {wrong[column].iloc[0]!r}, expected "
            f"{shown or ', '.join(repr(value) for value in allowed)} ({len(wrong)} such rows)",
            fix="use the file as its publisher gives it",
        )


def require_form(
    table: pd.DataFrame, column: str, pattern: str, path: Path, *, example: str
) -> pd.DataFrame:
    """Match every value of a column in full.

    Returns:
        The named groups of ``pattern``, on the index of ``table``.

    Raises:
        InputError: A value does not match; names the first line and value.
    """
    import pandas as pd

    matches = [re.fullmatch(pattern, value) for value in table[column]]
    for line, value, match in zip(table.index, table[column], matches, strict=True):
        if match is None:
            raise InputError(
                f"{path}, line {line}: {column} is {value!r}, expected the form {example}",
                fix="use the file as its publisher gives it",
            )
    return pd.DataFrame([match.groupdict() for match in matches if match], index=table.index)


def require_unique(table: pd.DataFrame, column: str, path: Path) -> None:
    """Refuse a key that stands in two rows.

    Raises:
        InputError: Names the lines.
    """
    twice = table[table.duplicated(column, keep=False)]
    if len(twice):
        value = twice[column].iloc[0]
        lines = ", ".join(str(line) for line in twice.index[twice[column] == value][:_SHOWN])
        raise InputError(
            f"{path}: {column} {value!r} stands in several lines ({lines})",
            fix="remove the repeated rows, or use the file as its publisher gives it",
        )


def missing_images(root: Path, images: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Position and reason of every image that is not there, or is empty."""
    for position, image in enumerate(images):
        try:
            size = (root / image).stat().st_size
        except (OSError, ValueError):
            yield position, "missing"
        else:
            if size == 0:
                yield position, "empty"


def _folders(root: Path) -> Iterator[Path]:
    """``root`` and the folders below it, breadth first, to a small depth."""
    level = [root]
    for _ in range(_DEPTH + 1):
        yield from level
        level = [folder for parent in level for folder in _subfolders(parent)]


def _subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``; none where it holds the images themselves."""
    entries = _entries(folder)
    return [Path(e.path) for e in entries if e.is_dir()] if len(entries) <= _CROWD else []


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = (entry for entry in entries if not entry.name.startswith("."))
            return sorted(visible, key=lambda entry: entry.name)
    except OSError:
        return []


def _header(path: Path, given: list[str], columns: Sequence[str]) -> list[str]:
    """The header with the wanted columns in their expected spelling."""
    spelling = {column.casefold(): column for column in columns}
    header = [spelling.get(name.strip().casefold(), name.strip()) for name in given]
    for column in columns:
        if header.count(column) > 1:
            raise InputError(f"{path} has the column {column!r} twice")
        if column not in header:
            near = difflib.get_close_matches(column, header, n=1)
            hint = f"is {near[0]!r} meant? " if near else ""
            raise InputError(
                f"{path} has no column {column!r}",
                fix=f"{hint}its columns are: {', '.join(header[:20]) or '(none)'}",
            )
    return header
