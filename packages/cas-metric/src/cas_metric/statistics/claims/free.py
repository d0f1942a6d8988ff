"""Checks of free metrics, derived numbers, intervals and tests of counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Final

import numpy as np

from cas_metric.statistics.claims.finding import Finding, Stated, judge
from cas_metric.statistics.claims.schema import (
    Derived,
    IntervalRow,
    Intervals,
    MetricRow,
    Metrics,
    TestRow,
    Tests,
)

_ALPHA: Final = 0.05
#: Ends of an interval may differ in width by this many rounding units without being skew.
_SKEW_UNITS: Final = 2.0


def check_metrics(table: Metrics) -> Iterator[Finding]:
    """The best of each metric as it is called, whether its lead is beyond the spread, and Real."""
    for column, direction in table.directions.items():
        sign = 1 if direction == "up" else -1
        rows = [row for row in table.rows if column in row.values and not row.real]
        ranked = sorted(rows, key=lambda row: -sign * row.values[column].value)
        real_ones = {row.method for row in table.rows if row.real}
        if ranked and column in table.best and table.best[column] not in real_ones:
            yield _best(table, column, ranked, sign)
        if len(ranked) > 1 and all(column in row.spreads for row in ranked[:2]):
            yield _lead(table, column, ranked[0], ranked[1])
        real = next((r for r in table.rows if r.real and column in r.values), None)
        if real is not None:
            yield from _beyond_real(table, column, ranked, real, sign)


def _best(table: Metrics, column: str, ranked: Sequence[MetricRow], sign: int) -> Finding:
    stated = table.best[column]
    top = ranked[0].values[column].value
    tied = [row.method for row in ranked if row.values[column].value == top]
    verdict, note = "holds", ""
    if stated not in tied:
        verdict, note = "mismatch", "another method is better as printed"
    elif len(tied) > 1:
        verdict, note = "weak", "equal as printed: which is better cannot be told"
    return Finding(
        table=table.name,
        item=f"{table.dataset}: {column}".removeprefix(": "),
        check="best as printed, " + ("higher" if sign > 0 else "lower") + " is better",
        verdict=verdict,
        stated=stated,
        recomputed=f"{', '.join(tied)} ({ranked[0].values[column]})",
        note=note,
    )


def _lead(table: Metrics, column: str, first: MetricRow, second: MetricRow) -> Finding:
    """The lead against the spread of a difference, or, with n runs, its standard error."""
    difference = abs(first.values[column].value - second.values[column].value)
    spread = math.hypot(first.spreads[column].value, second.spreads[column].value)
    bound, what = spread, "spread of a difference"
    if table.n is not None and table.n > 1:
        bound, what = (
            _t_quantile(table.n) * spread / math.sqrt(table.n),
            "95% reach of a difference",
        )
    return Finding(
        table=table.name,
        item=f"{table.dataset}: {column}, {first.method} over {second.method}".removeprefix(": "),
        check="lead against the spread",
        verdict="holds" if difference > bound else "weak",
        stated=", ".join(
            f"{row.values[column]} ± {row.spreads[column]}" for row in (first, second)
        ),
        recomputed=f"difference {difference:.4g}, {what} {bound:.4g}",
        note="" if difference > bound else "not larger than what the spread alone makes",
    )


def _t_quantile(n: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(2 * (n - 1), 0.975))


def _beyond_real(
    table: Metrics, column: str, rows: Sequence[MetricRow], real: MetricRow, sign: int
) -> Iterator[Finding]:
    limit = real.values[column]
    for row in rows:
        ours = row.values[column]
        if sign * (ours.value - limit.value) > ours.half_unit + limit.half_unit:
            yield Finding(
                table=table.name,
                item=f"{table.dataset}: {row.method}, {column}".removeprefix(": "),
                check="not better than Real",
                verdict="weak",
                stated=str(ours),
                recomputed=f"Real {limit}",
                note="better than real images: what optimising the measure looks like",
            )


def check_derived(table: Derived) -> Iterator[Finding]:
    """Each number by its formula, from the printed inputs and from all that print the same."""
    for row in table.rows:
        formula = _FORMULAS[row.formula]
        value = formula([one.value for one in row.inputs])
        corners = [
            formula(list(ends))
            for ends in product(*((one.low, one.high) for one in row.inputs[:_MOST_CORNERS]))
        ]
        low, high = min(corners), max(corners)
        if len(row.inputs) > _MOST_CORNERS:  # a mean or a sum, which rises with every input
            low, high = (
                formula([getattr(one, end) for one in row.inputs]) for end in ("low", "high")
            )
        yield Finding(
            table=table.name,
            item=row.label,
            check=row.formula.replace("_", " "),
            verdict=judge(row.stated, value, low, high),
            stated=str(row.stated),
            recomputed=f"{value:.5g} (between {low:.5g} and {high:.5g} before rounding)",
        )


#: Inputs whose rounding is varied in every combination.
_MOST_CORNERS: Final = 6


def _f1(inputs: Sequence[float]) -> float:
    precision, recall = inputs
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _odds(inputs: Sequence[float]) -> float:
    sensitivity, specificity = (min(max(one, 0.0), 1 - 1e-12) for one in inputs)
    return sensitivity / (1 - sensitivity) * specificity / (1 - specificity)


_FORMULAS: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    "f1": _f1,
    "balanced_accuracy": lambda inputs: sum(inputs) / 2,
    "diagnostic_odds": _odds,
    "percent": lambda inputs: 100 * inputs[0] / inputs[1],
    "mean": lambda inputs: sum(inputs) / len(inputs),
    "sum": lambda inputs: float(sum(inputs)),
}


def check_intervals(table: Intervals) -> Iterator[Finding]:
    """Whether an interval holds its estimate and agrees with its p-value."""
    for row in table.rows:
        inside = row.low.low <= row.estimate.high and row.estimate.low <= row.high.high
        yield Finding(
            table=table.name,
            item=row.label,
            check="estimate within its interval",
            verdict="holds" if inside else "mismatch",
            stated=f"{row.estimate} [{row.low}, {row.high}]",
            recomputed="inside" if inside else "outside",
        )
        if row.p is not None:
            yield _against_p(table, row, row.p)


def _against_p(table: Intervals, row: IntervalRow, p: Stated) -> Finding:
    """An interval leaves out the null exactly if p is below one minus its level."""
    excludes = not row.low.low <= row.null <= row.high.high
    could_exclude = not row.low.high <= row.null <= row.high.low
    alpha = 1 - table.level
    below = p.value < alpha or (p.relation == "<" and p.value <= alpha)
    agrees = below in (excludes, could_exclude)
    normal = _normal_p(row, table.level)
    note = (
        ""
        if agrees
        else f"p {'below' if below else 'not below'} {alpha:g}, interval says otherwise"
    )
    verdict = "holds" if agrees else "mismatch"
    exact = not p.relation and p.value > 0
    if agrees and exact and normal and abs(math.log10(p.value / normal)) > 1:
        verdict = "weak"
        note = "ten times off the normal p-value of such an interval: another test, or few runs"
    shown = "skew interval" if normal is None else f"normal p {normal:.2g}"
    return Finding(
        table=table.name,
        item=f"{row.label}, p",
        check="interval and p-value agree",
        verdict=verdict,
        stated=f"[{row.low}, {row.high}], p {p}",
        recomputed=f"{'leaves out' if excludes else 'holds'} {row.null:g}; {shown}",
        note=note,
    )


def _normal_p(row: IntervalRow, level: float) -> float | None:
    """Two-sided p-value that a symmetric interval implies; None for a skew one."""
    from scipy.stats import norm

    below, above = row.estimate.value - row.low.value, row.high.value - row.estimate.value
    unit = 2 * max(row.low.half_unit, row.high.half_unit, row.estimate.half_unit)
    if abs(below - above) > _SKEW_UNITS * unit or below + above <= 0:
        return None
    error = (below + above) / 2 / float(norm.ppf(0.5 + level / 2))
    return float(2 * norm.sf(abs(row.estimate.value - row.null) / error))


def check_tests(table: Tests) -> Iterator[Finding]:
    """Each statistic and p-value from its counts."""
    for row in table.rows:
        if row.test == "detection":
            yield from _detection(table, row)
            continue
        statistic, p = _recomputed(row)
        for what, stated, value in (("statistic", row.statistic, statistic), ("p", row.p, p)):
            if stated is not None and not math.isnan(value):
                yield Finding(
                    table=table.name,
                    item=f"{row.label}, {what}",
                    check=f"{row.test} of the counts",
                    verdict=judge(stated, value, value, value),
                    stated=str(stated),
                    recomputed=f"{value:.4g}",
                )


def _detection(table: Tests, row: TestRow) -> Iterator[Finding]:
    """Whether some division of the right answers among real and synthetic images gives the p."""
    from scipy.stats import fisher_exact

    if row.p is None:
        return
    right, real, synthetic = row.counts[0]
    found = {}
    for hits in range(max(0, right - synthetic), min(right, real) + 1):
        other = right - hits
        counts = [[hits, real - hits], [synthetic - other, other]]
        found[hits] = float(fisher_exact(counts).pvalue)
    fitting = [hits for hits, p in found.items() if judge(row.p, p, p, p) == "holds"]
    nearest = min(found, key=lambda hits: abs(found[hits] - row.p.value))  # type: ignore[union-attr]
    yield Finding(
        table=table.name,
        item=f"{row.label}, p",
        check="Fisher's test of answer against truth",
        verdict="holds" if fitting else "mismatch",
        stated=str(row.p),
        recomputed=f"{found[nearest]:.4g} with {nearest} of {real} real images found",
        note="" if fitting else "no division of the right answers gives it",
    )


def _recomputed(row: TestRow) -> tuple[float, float]:
    """Statistic (NaN where a test has none) and two-sided p-value."""
    from scipy.stats import binomtest, chi2_contingency, fisher_exact

    if row.test == "binomial":
        hits, misses = row.counts[0]
        return math.nan, float(binomtest(hits, hits + misses, row.null).pvalue)
    counts = np.array(row.counts)
    if row.test == "fisher":
        return math.nan, float(fisher_exact(counts).pvalue)
    found = chi2_contingency(counts, correction=row.test.endswith("corrected"))
    return float(found.statistic), float(found.pvalue)


def p_values_of(counts: list[list[int]]) -> dict[str, float]:
    """Two-sided p-values of a table of two by two, by the usual tests."""
    from scipy.stats import chi2_contingency, fisher_exact

    table = np.array(counts)
    if 0 in table.sum(axis=0):
        return {"every test": 1.0}
    return {
        "chi-square": float(chi2_contingency(table, correction=False).pvalue),
        "corrected": float(chi2_contingency(table, correction=True).pvalue),
        "Fisher": float(fisher_exact(table).pvalue),
    }
