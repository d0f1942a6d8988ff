"""What the paper prints, to stand beside what is measured."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any


@lru_cache(maxsize=1)
def _tables() -> list[dict[str, Any]]:
    text = files("cas_metric").joinpath("data", "paper_tables.json").read_text(encoding="utf-8")
    tables: list[dict[str, Any]] = json.loads(text)["tables"]
    return tables


def rows_of(table: str, dataset: str) -> dict[str, dict[str, str]]:
    """Rows of a table of the paper for one data set, by method, as printed; may be empty."""
    for entry in _tables():
        if entry["name"] == table and entry.get("dataset") == dataset and "rows" in entry:
            return {row["method"]: row for row in entry["rows"] if "method" in row}
    return {}


def printed(table: str, dataset: str, method: str, column: str) -> str:
    """One printed value, or an en dash."""
    return rows_of(table, dataset).get(method, {}).get(column, "–")


def printed_in(table: str, dataset: str, column: str = "tau") -> str:
    """A value that a table states once for a data set, or an en dash."""
    for entry in _tables():
        if entry["name"] == table and entry.get("dataset") == dataset:
            return str(entry.get(column, "–"))
    return "–"
