"""Correlations of columns of a table with one row a method, and their text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cas_metric.errors import InputError
from cas_metric.statistics.correlation import correlate
from cas_metric.statistics.rounding import fixed
from cas_metric.statistics.tables import markdown_table, number, p_value, told_p, with_bounds

if TYPE_CHECKING:
    import pandas as pd


def correlate_columns(
    frame: pd.DataFrame, group: str, x: str, target: str, seed: int
) -> dict[str, Any]:
    """All coefficients of two columns of a table with one row a method."""
    kept = frame[["method", x, target]].dropna()
    try:
        left, right = kept[x].astype(float), kept[target].astype(float)
        found = correlate(left, right, seed=seed)
    except (ValueError, InputError) as error:
        where = f" in {group}" if group else ""
        reason = error.problem if isinstance(error, InputError) else str(error)
        raise InputError(f"{x} with {target}{where}: {reason}") from error
    return {
        "group": group,
        "x": x,
        "y": target,
        "methods": kept["method"].astype(str).tolist(),
        "x_values": left.tolist(),
        "y_values": right.tolist(),
        "coefficients": [
            {**c._asdict(), "value": c.value._asdict(), "influence": c.influence} for c in found
        ],
    }


def coefficient_table(coefficients: list[dict[str, Any]]) -> str:
    """Coefficients with intervals, both p-values and the leave-one-out range, as Markdown."""
    lines = []
    for entry in coefficients:
        value = entry["value"]
        without = [v for v in entry["leave_one_out"] if v == v]  # NaN is unequal to itself
        lines.append(
            [
                entry["statistic"] + (" (ties)" if entry["ties"] else ""),
                str(entry["n"]),
                with_bounds(value),
                p_value(entry["p_asymptotic"]),
                p_value(entry["p_permutation"]) + (" (exact)" if entry["exact"] else ""),
                f"{number(min(without))} to {number(max(without))}" if without else "–",
            ]
        )
    headings = ["coefficient", "n", "value", "p (usual)", "p (permutation)", "leave one out"]
    return markdown_table(headings, lines)


def note(coefficients: list[dict[str, Any]]) -> str:
    """Pearson and Spearman with their permutation p-values, for the corner of a figure."""
    by_name = {entry["statistic"]: entry for entry in coefficients}
    lines = []
    for name, symbol in (("pearson", "r"), ("spearman", "ρ")):
        entry = by_name[name]
        value = entry["value"]["estimate"]
        lines.append(
            f"{symbol} = {fixed(value)} ({told_p(entry['p_permutation'], 'permutation p')})"
        )
    return "\n".join(lines)


def correlation_markdown(results: list[dict[str, Any]], x: str) -> str:
    """All coefficients of every pair of columns, and which method pulls most, as Markdown."""
    parts = [f"# Correlation with {x}"]
    for result in results:
        where = f" ({result['group']})" if result["group"] else ""
        parts.append(f"## {x} with {result['y']}{where}")
        parts.append(coefficient_table(result["coefficients"]))
        pearson = result["coefficients"][0]
        pulls = pearson["influence"]
        finite = [k for k, pull in enumerate(pulls) if pull == pull]
        if finite:
            most = max(finite, key=lambda k: abs(pulls[k]))
            parts.append(
                f"Most influential on Pearson: {result['methods'][most]} (without it "
                f"{fixed(pearson['leave_one_out'][most])})."
            )
    return "\n\n".join(parts) + "\n"
