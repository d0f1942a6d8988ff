"""Checks of sums, differences, equal numbers, shares and orders."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

from cas_metric.statistics.claims.finding import Finding, Stated, counts_for, judge
from cas_metric.statistics.claims.schema import (
    Counts,
    DifferenceRow,
    Differences,
    Equalities,
    Orderings,
    ProportionRow,
    Proportions,
)
from cas_metric.statistics.claims.scores import rate_exists

#: Counts behind a printed share that are tried.
_MOST_COUNTS = 12


def check_counts(table: Counts) -> Iterator[Finding]:
    """Column totals, and class sizes against the public data set."""
    for column, stated in table.totals.items():
        total = sum(table.columns[column].values())
        yield _count(table.name, f"{column}, total", "sum of the classes", stated, total)
    for label, known in table.known.items():
        total = sum(table.columns[column][label] for column in table.splits)
        check = f"size of the class in the data set ({table.known_source})"
        yield _count(table.name, f"{label}, {' + '.join(table.splits)}", check, total, known)


def _count(table: str, item: str, check: str, stated: int, recomputed: int) -> Finding:
    verdict = "holds" if stated == recomputed else "mismatch"
    return Finding(table, item, check, verdict, str(stated), str(recomputed))


def check_differences(table: Differences) -> Iterator[Finding]:
    """Stated differences, and differences against a spread."""
    for row in table.rows:
        if row.stated is not None:
            value = row.left.value - row.right.value
            low, high = row.left.low - row.right.high, row.left.high - row.right.low
            yield Finding(
                table=table.name,
                item=row.label,
                check="difference",
                verdict=judge(row.stated, value, low, high),
                stated=str(row.stated),
                recomputed=f"{row.left} - {row.right} = {value:.4g}",
            )
        if row.spread is not None:
            yield _against_spread(table.name, row, row.spread)


def _against_spread(table: str, row: DifferenceRow, spread: Stated) -> Finding:
    """Two means that each vary by ``spread`` differ by root two times that without any cause."""
    difference = abs(row.left.value - row.right.value)
    bound = math.sqrt(2) * spread.value
    return Finding(
        table=table,
        item=row.label,
        check="difference against the spread over seeds",
        verdict="holds" if difference > bound else "weak",
        stated=f"{row.left}, {row.right}",
        recomputed=f"difference {difference:.4f}, spread of a difference {bound:.4f}",
        note="" if difference > bound else "smaller than the spread over generation seeds",
    )


def check_proportions(table: Proportions) -> Iterator[Finding]:
    """Shares of n cases: whether they exist, and their difference against sampling error."""
    for row in table.rows:
        sizes = row.n, row.n_right or row.n
        for side, stated, n in zip(
            ("larger", "smaller"), (row.left, row.right), sizes, strict=True
        ):
            yield rate_exists(table.name, f"{row.label}, {side}", stated, n)
        yield _against_sampling_error(table.name, row, sizes)
        if row.p is not None:
            yield _p_of_shares(table.name, row, sizes, row.p)


def _against_sampling_error(table: str, row: ProportionRow, sizes: tuple[int, int]) -> Finding:
    left, right = row.left.value, row.right.value
    error = math.sqrt(sum(s * (1 - s) / n for s, n in zip((left, right), sizes, strict=True)))
    difference, bound = left - right, 1.96 * error
    verdict, note = "weak", "within the sampling error of two independent shares"
    if difference > bound:
        verdict, note = "holds", ""
    elif -difference > bound:
        verdict, note = "mismatch", "beyond the sampling error in the other direction"
    cases = f" ({difference * sizes[0]:.0f} of {sizes[0]} cases)" if sizes[0] == sizes[1] else ""
    return Finding(
        table=table,
        item=row.label,
        check="difference against sampling error",
        verdict=verdict,
        stated=f"{row.left}, {row.right}",
        recomputed=f"difference {difference:.3f}{cases}, 1.96 standard errors {bound:.3f}",
        note=note,
    )


def _p_of_shares(table: str, row: ProportionRow, sizes: tuple[int, int], p: Stated) -> Finding:
    """The stated p-value against the usual tests of two shares, over all counts that print them."""
    from cas_metric.statistics.claims.free import p_values_of

    sides = [
        list(counts_for(stated, n)) for stated, n in zip((row.left, row.right), sizes, strict=True)
    ]
    found: dict[str, list[float]] = {}
    for a in sides[0][:_MOST_COUNTS]:
        for b in sides[1][:_MOST_COUNTS]:
            counts = [[a, sizes[0] - a], [b, sizes[1] - b]]
            for name, value in p_values_of(counts).items():
                found.setdefault(name, []).append(value)
    fitting = [n for n, v in found.items() if any(judge(p, x, x, x) == "holds" for x in v)]
    shown = ", ".join(f"{name} {_span(values)}" for name, values in found.items())
    return Finding(
        table=table,
        item=f"{row.label}, p",
        check="p-value of two independent shares",
        verdict="holds" if fitting else "mismatch",
        stated=str(p),
        recomputed=shown or "no counts give these shares",
        note="" if fitting else "none of the usual tests of two independent shares gives it",
    )


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4f}" if high - low < 5e-5 else f"{low:.4f} to {high:.4f}"


def check_equalities(table: Equalities) -> Iterator[Finding]:
    """Numbers that should be equal: one finding for each row."""
    for row in table.rows:
        yield equality(table.name, row.label, row.values, row.note)


def equality(table: str, item: str, values: dict[str, Stated], note: str = "") -> Finding:
    """Whether one number can have been rounded to all of those printed."""
    low = max(value.low for value in values.values())
    high = min(value.high for value in values.values())
    same = len({value.value for value in values.values()}) == 1
    fits = low <= high + 1e-9
    return Finding(
        table=table,
        item=item,
        check="the same number wherever it is printed",
        verdict="holds" if same else "rounding" if fits else "mismatch",
        stated=", ".join(f"{value} ({place})" for place, value in values.items()),
        recomputed="equal" if same else "equal before rounding" if fits else "not equal",
        note="" if fits else note,
    )


def check_orderings(table: Orderings) -> Iterator[Finding]:
    """Whether every pair of methods comes in the same order under both measures."""
    for row in table.rows:
        swapped, undecided = [], []
        for a, b in combinations(row.first, 2):
            signs = [_sign(side[a], side[b]) for side in (row.first, row.second)]
            if signs[0] * signs[1] < 0:
                swapped.append(f"{a} and {b}")
            elif 0 in signs:
                undecided.append(f"{a} and {b}")
        verdict = "mismatch" if swapped else "weak" if undecided else "holds"
        described = [f"swapped: {', '.join(swapped)}"] if swapped else []
        described += [f"equal as printed: {', '.join(undecided)}"] if undecided else []
        yield Finding(
            table=table.name,
            item=row.label,
            check="same order under both measures",
            verdict=verdict,
            stated="same order",
            recomputed="; ".join(described) or "same order",
            note="their order cannot be told from the table" if undecided else "",
        )


def _sign(left: Stated, right: Stated) -> int:
    return (left.value > right.value) - (left.value < right.value)
