"""A results table in CSV: one row a method, columns of this package's scores or free metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from cas_metric.errors import InputError
from cas_metric.tables import read_frame, read_table

#: Columns of a CSV: two of names, sizes, and numbers as printed (``low_rate`` in percent).
CSV_COLUMNS: Final = (
    *("dataset", "method", "n", "seeds", "classes"),
    *("vdc", "ccs", "dd", "sfs", "cas", "cas_std", "tau", "low_rate", "p10"),
)
#: A free metric says where better lies: ``FID ↓``.
_DIRECTION: Final = {"↑": "up", "↓": "down"}
_FREE: Final = re.compile(r"(?P<name>.*\S)\s*(?P<arrow>[↑↓])")
_BOLD: Final = re.compile(r"\*\*(.+?)\*\*")


def read_csv_tables(path: Path) -> dict[str, Any]:
    """Scores, spreads, tails and free metrics of each data set in a CSV, as a document.

    Raises:
        InputError: Not readable, or unknown columns.
    """
    import pandas as pd

    frame = read_frame(path)
    free = {column: match for column in frame if (match := _FREE.fullmatch(str(column)))}
    unknown = [column for column in frame if column not in CSV_COLUMNS and column not in free]
    if "method" not in frame or unknown:
        what = f"unknown columns {', '.join(unknown)}" if unknown else "no column 'method'"
        raise InputError(
            f"{path}: {what}",
            fix=f"use columns of {', '.join(CSV_COLUMNS)}, or others that say where better lies: "
            "FID ↓",
        )
    blank = frame["method"].str.strip() == ""
    if blank.any():
        place = read_table(path).places[int(blank.argmax())]
        raise InputError(f"{path}, {place}: no method is named")
    tables: list[dict[str, Any]] = []
    datasets = frame["dataset"] if "dataset" in frame else pd.Series(path.stem, frame.index)
    for dataset, group in frame.groupby(datasets, sort=False):
        records = [{k: v for k, v in r.items() if v} for r in group.to_dict("records")]
        known = [{k: v for k, v in r.items() if k not in free} for r in records]
        if any(len(r) > 1 + ("dataset" in r) for r in known) or not free:
            tables += _tables_of(str(dataset), known, path.name)
        if any(column in r for r in records for column in free):
            tables.append(_metrics_of(str(dataset), records, free, path.name))
    return {"title": path.name, "tables": tables}


def _metrics_of(
    dataset: str, records: list[dict[str, str]], free: dict[Any, re.Match[str]], name: str
) -> dict[str, Any]:
    """Free metrics; ``**bold**``, of all or a part, marks the best, ``±`` a spread over seeds."""
    best: dict[str, str] = {}
    rows = []
    for record in records:
        values, spreads = {}, {}
        real = record["method"].lower() == "real"
        for column, match in free.items():
            text = record.get(column, "")
            if _BOLD.search(text) and not real:  # the best of the methods is meant
                best[match["name"]] = record["method"]
            value, _, spread = _BOLD.sub(r"\1", text).partition("±")
            if value.strip():
                values[match["name"]] = value.strip()
            if spread.strip():
                spreads[match["name"]] = spread.strip()
        if values:
            rows.append(
                {"method": record["method"], "values": values, "spreads": spreads, "real": real}
            )
    directions = {match["name"]: _DIRECTION[match["arrow"]] for match in free.values()}
    seeds = _common([r for r in records if r["method"].lower() != "real"], dataset, name, "seeds")
    head = {"kind": "metrics", "name": name, "dataset": dataset, "directions": directions}
    return {**head, "best": best, "rows": rows, **({"n": seeds["seeds"]} if seeds else {})}


def _tables_of(dataset: str, records: list[dict[str, str]], name: str) -> list[dict[str, Any]]:
    # Real is scored once, so its row does not tell the number of seeds.
    made = [r for r in records if r["method"].lower() != "real"] or records
    sizes = _common(records, dataset, name, "n", "classes") | _common(made, dataset, name, "seeds")
    head: dict[str, Any] = {"name": name, "dataset": dataset}
    keep = ("method", "vdc", "ccs", "dd", "sfs", "cas")
    scores: list[dict[str, Any]] = [
        {**{k: r[k] for k in keep if k in r}, "real": r["method"].lower() == "real"}
        for r in records
    ]
    tables: list[dict[str, Any]] = [{**head, "kind": "scores", **sizes, "rows": scores}]
    spreads = [
        {"method": r["method"], "mean": r["cas"], "std": r["cas_std"]}
        for r in records
        if "cas_std" in r and "cas" in r
    ]
    if spreads:
        tables.append({**head, "kind": "spread", "rows": spreads})
    tails = [
        {"method": r["method"], "rate": r["low_rate"], "p10": r.get("p10")}
        for r in records
        if "low_rate" in r
    ]
    if tails:
        known = _common(records, dataset, name, "n", "tau") | _common(made, dataset, name, "seeds")
        tables.append({**head, "kind": "tail", **known, "rows": tails})
    return tables


def _common(records: list[dict[str, str]], dataset: str, name: str, *keys: str) -> dict[str, str]:
    """Columns that say one thing of a whole data set, where any of its rows says it."""
    found = {}
    for key in keys:
        values = list(dict.fromkeys(r[key] for r in records if key in r))
        if len(values) > 1:
            raise InputError(
                f"{name}: the rows of {dataset} disagree on {key}: {', '.join(values)}",
                fix="give every data set one value, or each its own `dataset`",
            )
        if values:
            found[key] = values[0]
    return found
