"""``text``: prompts and checklists that are longer than the encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from cas_metric.report.sections import Section
from cas_metric.report.tables import Cell, Column, Table, TableRow, count, is_number, share

if TYPE_CHECKING:
    from cas_metric.report.content import Entry
    from cas_metric.runs.run import Run


def section(run: Run, methods: Sequence[Entry]) -> Section | None:
    """How much of the prompts and checklists lies past the encoder's limit."""
    limit = (run.summary.get("encoder") or {}).get("token_limit")
    tables = [t for t in (_prompt_table(methods, limit), _checklist_table(run.rows, limit)) if t]
    text = "What lies past the encoder's limit is not read and cannot be scored."
    return Section("Text", "Text beyond the limit", text, tables) if tables else None


def _prompt_table(methods: Sequence[Entry], limit: int | None) -> Table | None:
    """How many prompts of each method were cut at the encoder's limit; None without prompts."""
    rows = []
    for entry in methods:
        tokens = entry.rows["prompt_tokens"].dropna()
        if tokens.empty:
            continue
        cut = int(entry.rows["prompt_truncated"].fillna(False).astype(bool).sum())
        figures = (len(tokens), cut, float(tokens.median()), int(tokens.max()))
        cells = [Cell(entry.name, entry.name), *(Cell(count(v), v) for v in figures)]
        cells.insert(3, Cell(share(cut / len(tokens)), cut / len(tokens)))
        rows.append(TableRow(tuple(cells), entry.ink))
    columns = (
        Column("Method", numeric=False),
        Column("prompts"),
        Column("cut", f"Prompts longer than the {limit} tokens that the encoder reads."),
        Column("share cut"),
        Column("median tokens"),
        Column("most tokens"),
    )
    return Table("prompts", _limit("Prompts", limit), columns, tuple(rows)) if rows else None


def _checklist_table(rows: pd.DataFrame, limit: int | None) -> Table | None:
    """Length of each class's checklist and whether it was cut; None without checklists."""
    known = rows.dropna(subset=["checklist_tokens"])
    if known.empty:
        return None
    lines = []
    for label, group in known.groupby("label", sort=True):
        tokens = int(group["checklist_tokens"].max())
        cut = bool(group["checklist_truncated"].fillna(False).astype(bool).any())
        unread = max(tokens - limit, 0) if cut and is_number(limit) else 0
        cells = (Cell(str(label), str(label)), Cell(count(tokens), tokens))
        words = Cell("cut" if cut else "whole", "cut" if cut else "whole")
        lines.append(TableRow((*cells, words, Cell(count(unread), unread))))
    columns = (
        Column("Class", numeric=False),
        Column("tokens"),
        Column("read", numeric=False),
        Column("tokens unread"),
    )
    return Table("checklists", _limit("Checklists", limit), columns, tuple(lines))


def _limit(what: str, limit: int | None) -> str:
    return f"{what} against the encoder's limit of {limit} tokens" if limit else what
