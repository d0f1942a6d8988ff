"""Checks of score tables: means, rates that exist, chance, Real, and spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from cas_metric.protocol import PRIMITIVES
from cas_metric.statistics.aggregate import BOUNDS
from cas_metric.statistics.bimodality import wilson
from cas_metric.statistics.claims.finding import Finding, Stated, counts_for, judge
from cas_metric.statistics.claims.schema import ScoreRow, Scores, Spread


def check_scores(table: Scores) -> Iterator[Finding]:
    """Everything that a table of means lets one recompute."""
    for row in table.rows:
        yield from _out_of_range(table, row)
        yield from _mean_of_primitives(table, row)
        yield from _accuracy_exists(table, row)
        if not row.real:
            yield from _above_guessing(table, row)
    yield from _above_real(table)


def check_spread(table: Spread) -> Iterator[Finding]:
    """Neighbours in the order of means: is their difference larger than their joint spread?"""
    ordered = sorted(table.rows, key=lambda row: -row.mean.value)
    for better, worse in pairwise(ordered):
        difference = better.mean.value - worse.mean.value
        spread = math.hypot(better.std.value, worse.std.value)
        yield Finding(
            table=table.name,
            item=f"{table.dataset}: {better.method} over {worse.method}",
            check="difference against the spread over seeds",
            verdict="holds" if difference > spread else "weak",
            stated=f"{better.mean} ± {better.std}, {worse.mean} ± {worse.std}",
            recomputed=f"difference {difference:.3f}, spread of a difference {spread:.3f}",
            note="" if difference > spread else "smaller than the spread over generation seeds",
        )


def _out_of_range(table: Scores, row: ScoreRow) -> Iterator[Finding]:
    """Means that no cosines and no diagnoses have; a percentage in place of a share is one."""
    for name, (low, high) in BOUNDS.items():
        stated = getattr(row, name, None)
        if stated is not None and (stated.high < low or stated.low > high):
            yield Finding(
                table=table.name,
                item=f"{table.dataset}: {row.method}, {name.upper()}",
                check="inside what it can be",
                verdict="impossible",
                stated=str(stated),
                recomputed=f"{low:g} to {high:g}",
            )


def _mean_of_primitives(table: Scores, row: ScoreRow) -> Iterator[Finding]:
    parts = [getattr(row, name) for name in PRIMITIVES]
    if row.cas is None or any(part is None for part in parts):
        return
    values = [part.value for part in parts]
    mean = sum(values) / 4
    low, high = sum(part.low for part in parts) / 4, sum(part.high for part in parts) / 4
    yield Finding(
        table=table.name,
        item=f"{table.dataset}: {row.method}, CAS",
        check="mean of the four primitives",
        verdict=judge(row.cas, mean, low, high),
        stated=str(row.cas),
        recomputed=f"{mean:.5f} (between {low:.5f} and {high:.5f} before rounding)",
    )


def _accuracy_exists(table: Scores, row: ScoreRow) -> Iterator[Finding]:
    """DD is an accuracy: a share of n images, or of n times the number of seeds."""
    if row.dd is None or table.n is None:
        return
    seeds = 1 if row.real else table.seeds
    yield rate_exists(
        table.name, f"{table.dataset}: {row.method}, DD", row.dd, table.n, seeds=seeds
    )


def rate_exists(
    table: str, item: str, stated: Stated, n: int, *, seeds: int = 1, scale: float = 1.0
) -> Finding:
    """Whether some k of n cases give the printed share.

    Args:
        table: Name of the table.
        item: Name of the number.
        stated: Share or percentage.
        n: Cases of one seed.
        seeds: A mean over seeds of equal size is a share of ``n * seeds``.
        scale: What a share of 1 is printed as.
    """
    for total in (n, n * seeds):
        counts = counts_for(stated, total, scale)
        if len(counts):
            break
    trivial = scale / total <= 2 * stated.half_unit
    found = f"{counts[0]}/{total}" if len(counts) else f"no k/{total}"
    verdict = "holds" if len(counts) else "impossible"
    note = f"every number of {stated.decimals} decimals exists at this n" if trivial else ""
    if not len(counts) and len(cut := counts_for(stated, total, scale, cut=True)):
        verdict, found = "rounding", f"{cut[0]}/{total}"
        note = "only if the last decimal was cut off, not rounded"
    return Finding(
        table=table,
        item=item,
        check="share of a whole number of cases",
        verdict=verdict,
        stated=str(stated),
        recomputed=found,
        note=note,
    )


def _above_guessing(table: Scores, row: ScoreRow) -> Iterator[Finding]:
    """DD beside what guessing gives: one of the classes, and always the largest class."""
    if row.dd is None or table.classes is None:
        return
    if isinstance(table.classes, dict):
        sizes = list(table.classes.values())
        chance, majority = 1 / len(sizes), max(sizes) / sum(sizes)
    else:
        chance = majority = 1 / table.classes
    level = f"chance {chance:.3f}, majority class {majority:.3f}"
    verdict, note = "holds", ""
    if row.dd.value <= majority:
        verdict, note = "weak", "no better than always naming the largest class"
    elif table.n is not None:
        low, _ = wilson(round(row.dd.value * table.n), table.n)
        if low <= majority:
            verdict = "weak"
            note = f"at n = {table.n} not distinguishable from always naming the largest class"
    yield Finding(
        table=table.name,
        item=f"{table.dataset}: {row.method}, DD",
        check="above guessing",
        verdict=verdict,
        stated=str(row.dd),
        recomputed=level,
        note=note,
    )


def _above_real(table: Scores) -> Iterator[Finding]:
    reference = next((row for row in table.rows if row.real), None)
    if reference is None:
        return
    for row in table.rows:
        for name in ("dd", "vdc", "ccs"):
            ours, theirs = getattr(row, name), getattr(reference, name)
            if row.real or ours is None or theirs is None or ours.low <= theirs.high:
                continue
            note = "scores better than real images: what optimising the evaluator looks like"
            if name == "dd" and table.n is not None:
                _, high = wilson(round(theirs.value * table.n), table.n)
                side = "above" if ours.value > high else "within"
                note += f"; {side} Real's interval (up to {high:.3f})"
            yield Finding(
                table=table.name,
                item=f"{table.dataset}: {row.method}, {name.upper()}",
                check="not above Real",
                verdict="weak",
                stated=str(ours),
                recomputed=f"Real {theirs}",
                note=note,
            )
