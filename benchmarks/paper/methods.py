"""Methods on one set of cases: the numbers of Tables 1, 2, 4, 5, 12, 14 and 15."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.published import printed
from benchmarks.paper.recipes import Recipe
from benchmarks.paper.steps import Step

from cas_metric.runs.folder import Run, read_run
from cas_metric.statistics.method_table import COLUMNS, compare_methods
from cas_metric.statistics.tables import markdown_table, number

if TYPE_CHECKING:
    from collections.abc import Iterable


def scored_steps(
    pipeline: Pipeline, recipes: Iterable[Recipe], role: str = "main"
) -> tuple[Step, ...]:
    """Scores of every recipe by the evaluator of a role."""
    return tuple(pipeline.score(recipe.name, role) for recipe in recipes)


def runs(pipeline: Pipeline, recipes: Iterable[Recipe], role: str = "main") -> dict[str, Run]:
    """Title to the run of each recipe."""
    return {
        recipe.title: read_run(pipeline.score(recipe.name, role).result.parent)
        for recipe in recipes
    }


def compared(
    pipeline: Pipeline,
    recipes: Sequence[Recipe],
    role: str = "main",
    *,
    focus: str | None = None,
) -> tuple[dict[str, Any], pd.DataFrame, Run]:
    """What ``cas compare`` computes, the joined rows, and the run that holds the real images."""
    found = runs(pipeline, recipes, role)
    rows = pd.concat([run.rows.assign(method=title) for title, run in found.items()])
    first = next(iter(found.values()))
    result = compare_methods(rows.reset_index(drop=True), first.real, first.floor, focus=focus)
    return result, rows, first


def score_table(
    result: dict[str, Any], dataset: str, table: str, columns: Sequence[str] = COLUMNS
) -> str:
    """Means with the paper's value beside each, and the interval of CAS."""
    headings = ["Method", *(name.upper() for name in columns), "CAS, 95% interval", "over seeds"]
    lines = []
    for entry in references(result) + result["methods"]:
        method = entry["method"]
        cells = [
            f"{number(entry['mean'][name])} (paper {printed(table, dataset, method, name)})"
            for name in columns
        ]
        low, high = entry["interval"]["cas"]
        spread = entry.get("seeds", {}).get("cas")
        seeds = f"± {number(spread['std'])}" if spread else "–"
        lines.append([method, *cells, f"[{number(low)}, {number(high)}]", seeds])
    return markdown_table(headings, lines)


def references(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries of the real images and of their floor."""
    return [
        {"method": name.capitalize(), **result[name]}
        for name in ("real", "floor")
        if name in result
    ]


def pairs(result: dict[str, Any], focus: str) -> pd.DataFrame:
    """Paired differences in CAS of one method to all others: mean, 95% interval, Holm's p."""
    lines = []
    for pair in result["pairs"]:
        if focus not in (pair["left"], pair["right"]):
            continue
        sign = 1 if pair["left"] == focus else -1
        difference = pair["difference"]
        low, high = sorted((sign * difference["low"], sign * difference["high"]))
        lines.append(
            {
                "method": focus,
                "other": pair["right"] if sign == 1 else pair["left"],
                "difference": sign * difference["estimate"],
                "low": low,
                "high": high,
                "p_holm": pair["p_adjusted"],
            }
        )
    return pd.DataFrame(lines)


def pair_table(result: dict[str, Any], focus: str) -> str:
    """:func:`pairs` as Markdown."""
    from cas_metric.statistics.tables import p_value

    lines = [
        [
            f"{row.method} − {row.other}",
            number(row.difference),
            f"[{number(row.low)}, {number(row.high)}]",
            p_value(row.p_holm),
        ]
        for row in pairs(result, focus).itertuples()
    ]
    return markdown_table(["Difference in CAS", "mean", "95% interval", "p (Holm)"], lines)


def flat(result: dict[str, Any]) -> pd.DataFrame:
    """One row a method for the CSV."""
    from cas_metric.statistics.tables import csv_rows

    return pd.DataFrame(csv_rows(result))
