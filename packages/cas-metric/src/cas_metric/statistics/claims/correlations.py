"""Checks of correlations: their p-values by each test, and whether the coefficient can occur."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import permutations, product

import numpy as np

from cas_metric.statistics.claims.finding import Finding, Stated, judge
from cas_metric.statistics.claims.schema import CorrelationRow, Correlations

#: Beyond this n the orders with ties are too many to enumerate.
_ENUMERATED_N = 6
#: Beyond this n the number of orders leaves the range of floats.
_KENDALL_N = 100
_ALPHA = 0.05


def check_correlations(table: Correlations) -> Iterator[Finding]:
    """Each coefficient of a table."""
    for row in table.rows:
        if row.statistic == "kendall":
            yield from _kendall(table, row)
            continue
        if row.p is not None:
            yield _usual_p(table, row, row.p)
        if table.n > _ENUMERATED_N:
            continue
        if row.statistic == "spearman":
            yield _attainable(table, row)
            yield _exact_p(table, row)
        elif row.p is not None:
            yield _smallest_p(table, row, row.p)


def student_p(value: float, n: int) -> float:
    """Two-sided p-value of a coefficient by Student's t with n - 2 degrees of freedom."""
    from scipy.stats import t

    if abs(value) >= 1:
        return 0.0
    return float(2 * t.sf(abs(value) * math.sqrt((n - 2) / (1 - value * value)), n - 2))


def kendall_p(value: float, n: int) -> tuple[float, float]:
    """Two-sided p-values of Kendall's coefficient without ties: exact, and by the normal."""
    from scipy.stats import norm

    share = _inversions(n) / math.factorial(n)
    found = np.abs(1 - 4 * np.arange(len(share)) / (n * (n - 1)))
    exact = float(share[found >= abs(value) - 1e-12].sum())
    error = math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
    return min(exact, 1.0), float(2 * norm.sf(abs(value) / error))


def _inversions(n: int) -> np.ndarray:
    """How many orders of n have each number of inversions."""
    counts = np.ones(1)
    for k in range(2, n + 1):
        counts = np.convolve(counts, np.ones(k))
    return counts


def _kendall(table: Correlations, row: CorrelationRow) -> Iterator[Finding]:
    """Whether the coefficient can occur, and its p-value; without ties."""
    n, value = min(table.n, _KENDALL_N), row.value
    if table.n > _KENDALL_N:
        return
    possible = 1 - 4 * np.arange(n * (n - 1) // 2 + 1) / (n * (n - 1))
    near = possible[(possible >= value.low - 1e-9) & (possible <= value.high + 1e-9)]
    yield Finding(
        table=table.name,
        item=f"{row.label}, kendall",
        check=f"attainable with {n} pairs",
        verdict="holds" if len(near) else "weak",
        stated=str(value),
        recomputed="occurs without ties" if len(near) else "cannot occur without ties",
        note="" if len(near) else "some values are equal as printed, or the number is wrong",
    )
    if row.p is None:
        return
    pairs = [kendall_p(float(one), n) for one in (near if len(near) else [value.value])]
    both = [p for pair in pairs for p in pair]
    exact = max(pair[0] for pair in pairs)
    misleading = row.p.value < _ALPHA <= exact
    fits = any(judge(row.p, p, p, p) == "holds" for p in both)
    verdict = "mismatch" if not fits else "weak" if misleading else "holds"
    yield Finding(
        table=table.name,
        item=f"{row.label}, kendall p",
        check=f"p-value, exact or normal, at n = {n}",
        verdict=verdict,
        stated=str(row.p),
        recomputed=f"exact {exact:.4f}, normal {pairs[0][1]:.4f}",
        note=f"not below {_ALPHA} in the exact test" if fits and misleading else "",
    )


def _usual_p(table: Correlations, row: CorrelationRow, p: Stated) -> Finding:
    value = student_p(row.value.value, table.n)
    ends = student_p(row.value.low, table.n), student_p(row.value.high, table.n)
    return Finding(
        table=table.name,
        item=f"{row.label}, {row.statistic} p",
        check=f"p-value by Student's t at n = {table.n}",
        # The coefficient itself as well: at 0 the p-value is greatest between the ends.
        verdict=judge(p, value, min(ends), max(*ends, value)),
        stated=str(p),
        recomputed=f"{value:.4f}",
    )


def _smallest_p(table: Correlations, row: CorrelationRow, p: Stated) -> Finding:
    """No permutation test of so few pairs can go below one arrangement in n!."""
    smallest = 1 / math.factorial(table.n)
    below = p.value < smallest
    return Finding(
        table=table.name,
        item=f"{row.label}, {row.statistic} p",
        check="attainable by a permutation test",
        verdict="weak" if below else "holds",
        stated=str(p),
        recomputed=f"smallest p of {table.n}! orders is {smallest:.4f}",
        note="rests on normality, which so few pairs cannot show" if below else "",
    )


def _attainable(table: Correlations, row: CorrelationRow) -> Finding:
    patterns = patterns_giving(row.value, table.n)
    tied = next((p for p in patterns if p != (1,) * table.n), None)
    if any(p == (1,) * table.n for p in patterns):
        verdict, recomputed, note = "holds", "occurs without ties", ""
    elif tied is not None:
        verdict, recomputed = "weak", f"cannot occur without ties; occurs with ties {tied}"
        note = "two methods are equal as printed: their order is that of rounding, or unknown"
    else:
        verdict, recomputed, note = "impossible", f"no ranking of {table.n} gives it", ""
    return Finding(
        table=table.name,
        item=f"{row.label}, {row.statistic}",
        check=f"attainable with {table.n} pairs",
        verdict=verdict,
        stated=str(row.value),
        recomputed=recomputed,
        note=note,
    )


def _exact_p(table: Correlations, row: CorrelationRow) -> Finding:
    """Share of all orders at least as far from zero, under the tie pattern that can occur."""
    patterns = patterns_giving(row.value, table.n)
    plain = (1,) * table.n
    pattern = plain if plain in patterns or not patterns else patterns[0]
    values = np.abs(_coefficients(pattern, plain))
    exact = float(np.mean(values >= abs(row.value.value) - row.value.half_unit))
    misleading = row.p is not None and row.p.value < _ALPHA <= exact
    return Finding(
        table=table.name,
        item=f"{row.label}, {row.statistic} p",
        check="exact permutation p-value",
        verdict="weak" if misleading else "holds",
        stated=str(row.p) if row.p else "",
        recomputed=f"{exact:.4f}",
        note=f"not below {_ALPHA} in the exact test" if misleading else "",
    )


@cache
def _coefficients(left: tuple[int, ...], right: tuple[int, ...]) -> np.ndarray:
    """Spearman's coefficient under every order, for tied group sizes on either side."""
    first, second = _ranks(left), _ranks(right)
    orders = np.array(list(permutations(range(len(first)))))
    moved = (second - second.mean())[orders]
    centred = first - first.mean()
    return moved @ centred / np.sqrt(np.square(centred).sum() * np.square(moved[0]).sum())


def patterns_giving(value: Stated, n: int) -> list[tuple[int, ...]]:
    """Tie patterns of one side under which Spearman's coefficient can be printed as ``value``.

    Args:
        value: The coefficient.
        n: Number of pairs, at most 6.

    Returns:
        Sizes of the groups of equal values in ascending order, all ones for no tie; the other
        side has no ties. Patterns with fewer ties come first.
    """
    plain = (1,) * n
    fitting = [
        pattern
        for pattern in _compositions(n)
        if len(pattern) > 1
        and (np.abs(_coefficients(pattern, plain) - value.value) <= value.half_unit + 1e-9).any()
    ]
    return sorted(fitting, key=lambda pattern: -len(pattern))


def _compositions(n: int) -> list[tuple[int, ...]]:
    """Every way to cut n ordered items into consecutive groups."""
    found = []
    for cuts in product((False, True), repeat=n - 1):
        sizes, size = [], 1
        for cut in cuts:
            if cut:
                sizes.append(size)
                size = 0
            size += 1
        found.append((*sizes, size))
    return found


def _ranks(pattern: tuple[int, ...]) -> np.ndarray:
    """Average ranks of groups of equal values."""
    starts = np.cumsum((0, *pattern[:-1]))
    return np.repeat(starts + (np.array(pattern) + 1) / 2, pattern).astype(float)
