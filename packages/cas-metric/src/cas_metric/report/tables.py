"""Tables of a report, as the templates draw them, and how their numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeGuard

from cas_metric.statistics import rounding
from cas_metric.statistics.rounding import MISSING, fixed, percent

__all__ = [
    "MISSING",
    "Cell",
    "Column",
    "Table",
    "TableRow",
    "between",
    "count",
    "is_number",
    "number",
    "share",
]


@dataclass(frozen=True)
class Cell:
    """One figure of a table.

    Attributes:
        text: As shown.
        value: What the table sorts by; None sorts last.
        interval: 95% interval as shown below the figure; may be empty.
        best: Whether it is the best of its column.
        heat: Depth of its background in percent, or None for a plain cell.
        code: Whether it is set in a fixed-width face.
    """

    text: str
    value: float | str | None = None
    interval: str = ""
    best: bool = False
    heat: int | None = None
    code: bool = False


@dataclass(frozen=True)
class Column:
    """Heading of a column; ``help`` explains it, ``numeric`` aligns it right."""

    title: str
    help: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class TableRow:
    """One line of a table; ``ink`` names the swatch beside its first cell."""

    cells: tuple[Cell, ...]
    ink: str = ""


@dataclass(frozen=True)
class Table:
    """A sortable table; ``apart`` rows (Real, floor) stay at its foot whatever the order."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    apart: tuple[TableRow, ...] = ()


def number(value: Any, digits: int = 3) -> str:
    """A score with ``digits`` decimals and a true minus sign; a dash where there is none."""
    return fixed(value, digits) if is_number(value) else MISSING


def share(value: Any) -> str:
    """A share of one as a percentage with one decimal; a dash where there is none."""
    return percent(value) if is_number(value) else MISSING


def count(value: Any) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{int(value):,}".replace(",", "\u202f") if is_number(value) else MISSING


def between(bounds: Any, write: Any = number) -> str:
    """An interval as ``low–high``, "to" where an end is negative; empty where there is none."""
    if not bounds or not all(is_number(bound) for bound in bounds):
        return ""
    return rounding.between(bounds, write)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a finite number (not None, NaN, a flag or text)."""
    return not isinstance(value, (bool, str)) and value is not None and math.isfinite(float(value))
