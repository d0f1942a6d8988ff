"""What a report says: the run's rows and summary as the tables, charts and sentences shown.

Aggregates are those of ``summary.json``; distributions come from the rows. Nothing here knows HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cas_metric.protocol import LOW_PERCENTILE, PRIMITIVES
from cas_metric.report import charts, glossary
from cas_metric.report.charts import Chart, Series
from cas_metric.report.palette import INKS
from cas_metric.report.tables import (
    Cell,
    Column,
    Table,
    TableRow,
    between,
    count,
    is_number,
    number,
    share,
)
from cas_metric.statistics.intervals import FEW_CLUSTERS
from cas_metric.statistics.tail import low_rate, threshold


@dataclass(frozen=True)
class Entry:
    """A method, Real or the floor: its name, style, aggregates, tail and rows."""

    name: str
    ink: str
    summary: Mapping[str, Any]
    tail: Mapping[str, Any]
    rows: pd.DataFrame

    def series(self, column: str) -> Series:
        """Its values of one score."""
        return Series(self.name, self.ink, self.rows[column].to_numpy(dtype=float))


def entries(
    rows: pd.DataFrame, real: pd.DataFrame | None, floor: pd.DataFrame | None, summary: Any
) -> tuple[list[Entry], list[Entry]]:
    """The methods in the summary's order, and the references (Real, floor) that the run has."""
    names = rows["method"].fillna("").astype(str)
    found: list[tuple[str, str, Any, pd.DataFrame | None]] = [
        (one["method"] or "generated", f"m{index % len(INKS)}", one, rows[names == one["method"]])
        for index, one in enumerate(summary["methods"])
    ]
    methods = len(found)
    found += [("Real", "real", summary.get("real"), real)]
    found += [("Floor", "floor", summary.get("floor"), floor)]
    every = [
        Entry(name, ink, one, _tail(one, table, summary.get("tau")), table)
        for name, ink, one, table in found
        if one and table is not None
    ]
    return every[:methods], every[methods:]


def _tail(summary: Mapping[str, Any], rows: pd.DataFrame, tau: Any) -> Mapping[str, Any]:
    """The tail that the summary tells; for the references, which have none there, from the rows."""
    told = summary.get("tail")
    if told or not is_number(tau) or not rows["cas"].notna().any():
        return told or {}
    return {"rate": low_rate(rows["cas"], tau), "p10": threshold(rows["cas"], LOW_PERCENTILE / 100)}


#: Methods that a sentence names.
_NAMED = 4


# -- headline -----------------------------------------------------------------------------------


def headline(methods: Sequence[Entry], references: Sequence[Entry]) -> list[str]:
    """Two or three sentences that say what came out, claiming no more than the intervals do."""
    scored = [m for m in methods if is_number(m.summary["mean"].get("cas"))]
    if not scored:
        return [
            "CAS could not be computed: it is the mean of four scores and is left empty where one "
            "of them is missing. The scores that could be had are below."
        ]
    ranked = sorted(scored, key=lambda m: -m.summary["mean"]["cas"])
    sentences = [_standing(ranked)]
    tail = ranked[0].tail
    if is_number(tail.get("rate")):
        sentences.append(
            f"{share(tail['rate'])} of its images score below τ = {number(tail.get('tau'))}, where "
            "by definition 25% of the real images do."
        )
    real = next((one.summary["mean"].get("cas") for one in references if one.ink == "real"), None)
    if is_number(real):
        sentences.append(f"Real images reach {number(real)} against themselves.")
    floor = next((one.summary["mean"].get("cas") for one in references if one.ink == "floor"), None)
    if is_number(floor):
        sentences.append(
            f"Another real image of the same class would score {number(floor)} on average (Floor)."
        )
    return sentences


def _standing(ranked: Sequence[Entry]) -> str:
    """Who leads, and whether the leader's interval is clear of the next one's."""
    best = ranked[0]
    text = f"{best.name} reaches a mean CAS of {number(best.summary['mean']['cas'])}"
    bounds = _interval(best, "cas")
    if bounds:
        text += f" (95% interval {number(bounds[0])} to {number(bounds[1])})"
    if len(ranked) == 1:
        return text + "."
    others = {one.name: _interval(one, "cas") for one in ranked[1:]}
    if not bounds or not all(others.values()):
        second = ranked[1]
        return f"{text}, ahead of {second.name} at {number(second.summary['mean']['cas'])}."
    # Not the second alone: a method of fewer cases has a wider interval than one above it.
    open_ = [name for name, other in others.items() if other and bounds[0] <= other[1]]
    if not open_:
        return f"{text}, the highest of the methods; its interval is clear of every other method's."
    several = len(open_) > 1
    shown = open_
    if len(open_) > _NAMED:
        shown = [*open_[: _NAMED - 1], f"{len(open_) - _NAMED + 1} others"]
    named = f"{', '.join(shown[:-1])} and {shown[-1]}" if several else open_[0]
    order = "their order" if several else "the order of the two"
    whose = "those" if several else "that"
    return f"{text}; its interval overlaps {whose} of {named}, so {order} is open."


def _interval(entry: Entry, key: str) -> Sequence[float] | None:
    bounds = (entry.summary.get("interval") or {}).get(key)
    return bounds if bounds and all(is_number(bound) for bound in bounds) else None


# -- summary table ------------------------------------------------------------------------------


def summary_table(methods: Sequence[Entry], references: Sequence[Entry]) -> Table:
    """Primitives, CAS and tail of every method; the best of each column is marked."""
    columns = (
        Column("Method", numeric=False),
        *(Column(t.short, f"{t.name}. {t.what} Higher is better.") for t in glossary.TERMS),
        Column("below τ", f"{glossary.LOW_RATE} Lower is better."),
        Column("P10", f"{glossary.P10} Higher is better."),
        Column("images", "Images that were scored."),
        Column("failed", "Images that could not be scored; see Failures."),
    )
    best = _best(methods) if len(methods) > 1 else {}
    return Table(
        "summary",
        _caption(methods),
        columns,
        tuple(_summary_row(entry, best) for entry in methods),
        tuple(_summary_row(entry, {}) for entry in references),
    )


def _caption(methods: Sequence[Entry]) -> str:
    """Title of the summary table; it says where the intervals rest on few cases."""
    sizes = [int(n) for m in methods if (n := m.summary.get("clusters"))]  # 0: nothing scored
    text = "Means over images with 95% intervals below them."
    if sizes and min(sizes) < FEW_CLUSTERS:
        text += f" They rest on as few as {min(sizes)} independent cases: wide, and rough."
    return text


def _figures(entry: Entry) -> dict[str, tuple[float | None, str]]:
    """Every figure of a line of the summary table: value and interval as shown."""
    mean, tail = entry.summary["mean"], entry.tail
    figures = {
        term.key: (mean.get(term.key), between(_interval(entry, term.key)))
        for term in glossary.TERMS
    }
    figures["rate"] = (tail.get("rate"), between(tail.get("rate_interval"), share))
    figures["p10"] = (tail.get("p10"), between(tail.get("p10_interval")))
    return figures


def _shown(key: str, value: Any) -> str:
    return share(value) if key == "rate" else number(value)


def _best(methods: Sequence[Entry]) -> dict[str, str]:
    """The best figure of each column as it is shown, so that equal figures are marked alike."""
    best = {}
    for key in (*(term.key for term in glossary.TERMS), "rate", "p10"):
        values = [v for v in (_figures(m)[key][0] for m in methods) if is_number(v)]
        if values:
            best[key] = _shown(key, min(values) if key == "rate" else max(values))
    return best


def _summary_row(entry: Entry, best: Mapping[str, str]) -> TableRow:
    cells = [Cell(entry.name, entry.name)]
    for key, (value, interval) in _figures(entry).items():
        text = _shown(key, value)
        cells.append(Cell(text, value, interval, best=best.get(key) == text))
    n, failed = entry.summary.get("n"), entry.summary.get("n_failed")
    cells += [Cell(count(n), n), Cell(count(failed), failed)]
    return TableRow(tuple(cells), entry.ink)


# -- charts -------------------------------------------------------------------------------------


def interval_chart(methods: Sequence[Entry], references: Sequence[Entry]) -> Chart | None:
    """Mean CAS of each method with its interval, the references below; None without a CAS."""
    rows = []
    for entry in (*methods, *references):
        mean = entry.summary["mean"].get("cas")
        if is_number(mean):
            low, high = _interval(entry, "cas") or (float("nan"), float("nan"))
            rows.append((entry.name, entry.ink, float(mean), low, high))
    return charts.interval_chart(rows, "Mean CAS with 95% intervals") if rows else None


def ecdf_chart(
    methods: Sequence[Entry], references: Sequence[Entry], tau: float | None
) -> Chart | None:
    """ECDF of per-image CAS against Real (Fig. 4 of the paper); None without a CAS."""
    series = [entry.series("cas") for entry in (*references, *methods)]
    if not any(one.finite.size for one in series):
        return None
    notes = {}
    taus = {entry.tail.get("tau", tau) for entry in methods}
    tau = taus.pop() if len(taus) == 1 else tau  # of the cases that all of them cover
    for entry in methods:
        rate = entry.tail.get("rate")
        if is_number(rate):
            notes[entry.name] = f"{share(rate)} below τ"
    return charts.ecdf_chart(series, tau if is_number(tau) else None, notes=notes)


def primitive_charts(methods: Sequence[Entry], references: Sequence[Entry]) -> list[Chart]:
    """One chart a primitive: histograms, and bars for DD, which is 0 or 1."""
    made = []
    for term in glossary.PRIMITIVE_TERMS:
        series = [entry.series(term.key) for entry in (*methods, *references)]
        note = ""
        if term.key == "sfs":  # a spike at 1 that would flatten everything else
            series = [one for one in series if one.ink != "real"]
            note = "Real is 1 by construction and not drawn."
        if not any(one.finite.size for one in series):
            continue
        draw = charts.share_chart if term.key == "dd" else charts.histogram_chart
        made.append(draw(f"{term.short} · {term.name}", series, note=note))
    return made


# -- classes ------------------------------------------------------------------------------------


def class_tables(
    methods: Sequence[Entry], references: Sequence[Entry], tau: float | None
) -> list[Table]:
    """One table a score: classes by methods, shaded by value; the references set beside them."""
    labels = list(dict.fromkeys(c for m in methods for c in m.summary.get("per_class") or {}))
    shown = (*methods, *references)
    tables = []
    for key in ("cas", *PRIMITIVES, "rate"):
        grid = [[_class_value(entry, label, key, tau) for entry in shown] for label in labels]
        if any(is_number(value) for line in grid for value in line):
            tables.append(_class_table(key, labels, shown, grid))
    return tables


def _class_value(entry: Entry, label: str, key: str, tau: float | None) -> float | None:
    if key != "rate":
        return ((entry.summary.get("per_class") or {}).get(label) or {}).get(key)
    cas = entry.rows.loc[entry.rows["label"] == label, "cas"].dropna()
    tau = entry.tail.get("tau", tau)
    return float((cas < tau).mean()) if is_number(tau) and len(cas) else None


def _class_table(
    key: str, labels: Sequence[str], shown: Sequence[Entry], grid: Sequence[Sequence[float | None]]
) -> Table:
    numbers = [v for line in grid for v in line if is_number(v)]
    low, span = min(numbers), max(max(numbers) - min(numbers), 1e-9)
    sizes = shown[0].summary.get("per_class") or {}
    rows = []
    for label, line in zip(labels, grid, strict=True):
        n = (sizes.get(label) or {}).get("n")
        cells = [Cell(label, label), Cell(count(n), n)]
        for value in line:
            heat = round(100 * (value - low) / span) if is_number(value) else None
            cells.append(Cell(_shown(key, value), value, heat=heat))
        rows.append(TableRow(tuple(cells)))
    title = "below τ" if key == "rate" else key.upper()
    columns = (
        Column("Class", numeric=False),
        Column("images", f"Scored images of {shown[0].name}."),
        *(Column(entry.name) for entry in shown),
    )
    return Table(title, f"{title} by class", columns, tuple(rows))
