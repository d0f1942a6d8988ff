"""Manifests to files, atomically."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from cas_metric.manifest.folders import FILE_NAME
from cas_metric.manifest.rows import COLUMNS
from cas_metric.tables import cell_text, python_values

if TYPE_CHECKING:
    import pandas as pd

#: Columns that are written even where they are empty.
ALWAYS: Final = ("id", "image", "label")


def write_manifest(
    rows: pd.DataFrame, path: str | Path, *, extra: pd.DataFrame | None = None
) -> Path:
    r"""Write rows so that :func:`read_manifest` gives them back.

    Args:
        rows: Any of :data:`COLUMNS`, ``image`` among them; missing values become empty text.
        path: ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``, or a folder, whose ``metadata.csv`` is
            written in the imagefolder convention.
        extra: Further columns, row by row beside ``rows``.

    Returns:
        The path of the file.

    Raises:
        InputError: Columns outside of :data:`COLUMNS`, no ``image``, no rows, seeds that are no
            whole numbers, unknown suffix.

    Examples:
        >>> import tempfile
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"image": ["a.png"], "label": ["Edema"]})
        >>> write_manifest(rows, Path(tempfile.mkdtemp(), "m.csv")).read_text()
        'image,label\na.png,Edema\n'
    """
    path = Path(path)
    table = _normalised(rows)
    if extra is not None:
        table = table.assign(**{name: _text(extra[name]) for name in extra})
    if path.is_dir():
        path = path / "metadata.csv"
        table = table.rename(columns={"image": FILE_NAME})
    encoders: dict[str, Callable[[], bytes]] = {
        ".csv": lambda: _csv(table).encode(),
        ".tsv": lambda: _csv(table, "\t").encode(),
        ".jsonl": lambda: table.to_json(orient="records", lines=True, force_ascii=False).encode(),
        ".parquet": lambda: table.to_parquet(index=False, write_page_checksum=True),
    }
    encode = encoders.get(path.suffix.lower())
    if encode is None:
        raise InputError(
            f"{path}: a manifest cannot be written as {path.suffix or 'a file without suffix'}",
            fix="name it .csv, .tsv, .jsonl or .parquet, or name an existing folder",
        )
    try:
        content = encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: a cell is no text: {error}", fix="replace the character"
        ) from error
    write_bytes(path, content)
    return path


def _csv(table: pd.DataFrame, separator: str = ",") -> str:
    """CSV with quotes where they are needed; pandas sees no need in a lone carriage return."""
    has_return = any(table[c].str.contains("\r").any() for c in table if c != "seed")
    quoting = csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    return str(table.to_csv(index=False, sep=separator, lineterminator="\n", quoting=quoting))


def _normalised(rows: pd.DataFrame) -> pd.DataFrame:
    """Known columns in order, text but for ``seed``, without optional ones that are empty."""
    import pandas as pd

    for name in rows.columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(str(name), COLUMNS, n=1)
            raise InputError(
                f"a manifest has no column {name!r}",
                fix=f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(COLUMNS)}",
            )
    if "image" not in rows or rows.empty:
        raise InputError("a manifest needs at least one row with an image", fix="add 'image'")
    table = pd.DataFrame(index=range(len(rows)))
    for name in COLUMNS:
        if name not in rows:
            continue
        values = rows[name].reset_index(drop=True)
        if name == "seed":
            table[name] = _whole_numbers(values)
        else:
            table[name] = _text(values)
    kept = [c for c in table if c in ALWAYS or not (table[c].isna() | (table[c] == "")).all()]
    return table[kept]


def _text(values: pd.Series) -> pd.Series:
    """The cells as a reader gives them: see :func:`~cas_metric.tables.cell_text`."""
    import pandas as pd

    cells = python_values(values.astype(object))
    told = [str(cell) if (text := cell_text(cell)) is None else text for cell in cells]
    return pd.Series(told, dtype="str")


def _whole_numbers(seeds: pd.Series) -> pd.Series:
    try:
        return seeds.astype("Int64")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"the seeds are not whole numbers: {error}", fix="round them") from error
