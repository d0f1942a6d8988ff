"""Tables that a user hands to a verb."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cas_metric.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def read_columns(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV (or JSON list of records) and check that it holds ``columns``.

    Raises:
        InputError: No file, no table, or a missing column; the columns there are named.
    """
    import pandas as pd

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        table = pd.read_json(path) if path.suffix == ".json" else pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{path}: not readable as a table: {error}") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}",
            fix=f"it has {', '.join(map(str, table.columns))}",
        )
    return table
