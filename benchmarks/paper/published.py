"""What the paper prints, to stand beside what is measured."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml

#: Values beside those that ``cas check`` examines, which ship with cas-metric.
_FURTHER: Final = Path(__file__).with_name("printed.yaml")


@cache
def _shipped() -> list[dict[str, Any]]:
    text = files("cas_metric").joinpath("data", "paper_tables.json").read_text(encoding="utf-8")
    tables: list[dict[str, Any]] = json.loads(text)["tables"]
    return tables


@cache
def _further() -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    tables: dict[str, dict[str, dict[str, dict[str, str]]]] = yaml.safe_load(
        _FURTHER.read_text(encoding="utf-8")
    )
    return tables


def printed(table: str, dataset: str, method: str, column: str) -> str:
    """One value as printed, or an en dash where the paper has none."""
    for entry in _shipped():
        if entry["name"] == table and entry.get("dataset") == dataset and "rows" in entry:
            for row in entry["rows"]:
                if row.get("method") == method and column in row:
                    return str(row[column])
    return _further().get(table, {}).get(dataset, {}).get(method, {}).get(column, "–")


def printed_in(table: str, dataset: str, column: str = "tau") -> str:
    """A value that a table states once for a data set, or an en dash."""
    for entry in _shipped():
        if entry["name"] == table and entry.get("dataset") == dataset:
            return str(entry.get(column, "–"))
    return "–"
