"""Tables of a report, as the templates draw them."""

from __future__ import annotations

from dataclasses import dataclass


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
