"""``subgroups``: of ``subgroups``, groups of patients held against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cas_metric.report.sections import Section
from cas_metric.report.tables import Cell, Column, Table, TableRow, between, count, number, share
from cas_metric.statistics.subgroups import QUANTITIES

if TYPE_CHECKING:
    from cas_metric.report.content import Entry
    from cas_metric.runs.run import Run

#: Name of a set, what was found of it, and its ink.
_Set = tuple[str, Mapping[str, Any], str]


def section(run: Run, methods: Sequence[Entry]) -> Section | None:
    """Scores of every group and the gaps between groups; None without groups."""
    found = run.summary.get("subgroups") or {}
    inks = {entry.name: entry.ink for entry in methods} | {"Real": "real"}
    sets = [
        (name, one, inks.get(name, ""))
        for kind in ("methods", "real")
        for name, one in found.get(kind, {}).items()
    ]
    if not sets:
        return None
    notes = " ".join(dict.fromkeys(f"{note}." for _, one, _ in sets for note in one["notes"]))
    text = (
        "Intervals hold for all groups together, p-values are corrected for all gaps of all "
        "methods. A gap that the real images show as well may lie in the encoder or in the cases, "
        f"and not in the generator. {notes}"
    )
    return Section("Subgroups", "Groups of patients", text, [_group_table(sets), _gap_table(sets)])


def _group_table(sets: Sequence[_Set]) -> Table:
    shown = [q for q in QUANTITIES if any(q in row for _, one, _ in sets for row in one["groups"])]
    columns = (
        *(Column(title, numeric=False) for title in ("Set", "attribute", "group")),
        *(Column(title) for title in ("images", "cases", *(QUANTITIES[name] for name in shown))),
    )
    rows = [
        TableRow((Cell(name, name), *_group_cells(row, shown)), ink)
        for name, one, ink in sets
        for row in one["groups"]
    ]
    return Table("groups", "Scores of each group", columns, tuple(rows))


def _group_cells(row: Mapping[str, Any], shown: Sequence[str]) -> Iterator[Cell]:
    for key in ("attribute", "group"):
        yield Cell(row[key], row[key])
    for key in ("n", "clusters"):
        yield Cell(count(row[key]), row[key])
    for key in shown:
        write = number if key == "cas" else share
        bounds = [row.get(f"{key}_low"), row.get(f"{key}_high")]
        yield Cell(write(row.get(key)), row.get(key), between(bounds, write))


def _gap_table(sets: Sequence[_Set]) -> Table:
    columns = (
        *(Column(title, numeric=False) for title in ("Set", "attribute", "gap", "of")),
        *(Column(title) for title in ("difference", "p, corrected")),
    )
    rows = []
    for name, one, ink in sets:
        for gap in one["gaps"]:
            between_groups = f"{gap['group']} − {gap['other']}"
            words = (name, gap["attribute"], between_groups, QUANTITIES[gap["quantity"]])
            difference = Cell(number(gap["gap"]), gap["gap"], between([gap["low"], gap["high"]]))
            figures = (difference, Cell(number(gap["p"]), gap["p"]))
            rows.append(TableRow((*(Cell(word, word) for word in words), *figures), ink))
    return Table("gaps", "Gaps between groups", columns, tuple(rows))
