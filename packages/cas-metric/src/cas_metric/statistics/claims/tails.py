"""Checks of tail tables, and of reductions concluded from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cas_metric.statistics.bimodality import wilson
from cas_metric.statistics.claims.finding import Finding, Stated, judge
from cas_metric.statistics.claims.schema import Reductions, ScoreRow, Scores, Tail, TailRow
from cas_metric.statistics.claims.scores import rate_exists

#: Points that one image is taken for where a table does not say how many there are.
_ONE_IMAGE: Final = 1.0
#: A rate within these many points of 1 - DD says little more than DD does.
_RESTATES_POINTS: Final = 5.0


def check_tail(table: Tail, scores: Mapping[str, Scores]) -> Iterator[Finding]:
    """Everything that a tail table lets one recompute, with the scores of the same data set."""
    reference = scores.get(table.dataset)
    rows = {row.method: row for row in reference.rows} if reference else {}
    for row in table.rows:
        item = f"{table.dataset}: {row.method}"
        if table.n is not None:
            seeds = 1 if row.method.lower() == "real" else table.seeds
            yield rate_exists(
                table.name, f"{item}, rate", row.rate, table.n, seeds=seeds, scale=100.0
            )
        yield from _percentile_beside_rate(table, row, item)
        yield from _restates_dd(table, row, rows.get(row.method), item)
    real = next((row for row in rows.values() if row.real), None)
    if real is not None and table.n is not None:
        yield from _threshold_in_a_mode(table, real, table.n)


def _percentile_beside_rate(table: Tail, row: TailRow, item: str) -> Iterator[Finding]:
    """The 10th percentile is below tau exactly when more than a tenth of the images are.

    But for one image: where the tenth falls between one below tau and one above, the percentile
    lies on whichever side its kind of interpolation puts it.
    """
    if row.p10 is None or table.tau is None:
        return
    below, more = row.p10.value < table.tau.value, row.rate.value > 10
    # Either side that rounding leaves open may be the true one.
    open_sides = table.tau.low < row.p10.high and row.p10.low < table.tau.high
    open_sides |= row.rate.low < 10 < row.rate.high
    one_image = _ONE_IMAGE if table.n is None else 100 / (table.n * table.seeds)
    between = abs(row.rate.value - 10) <= one_image + row.rate.half_unit
    verdict = "holds" if below == more else "rounding" if open_sides else "mismatch"
    note = ""
    if verdict == "mismatch" and between:
        verdict, note = "holds", "the tenth falls between an image below tau and one above"
    yield Finding(
        table=table.name,
        item=f"{item}, 10th percentile",
        check="10th percentile below tau exactly if the rate exceeds 10%",
        verdict=verdict,
        stated=f"{row.p10}, rate {row.rate}%",
        recomputed=f"tau {table.tau}",
        note=note,
    )


def _restates_dd(
    table: Tail, row: TailRow, scores: ScoreRow | None, item: str
) -> Iterator[Finding]:
    """With the threshold between the modes of the 0/1 DD, the tail is the wrong diagnoses."""
    if scores is None or scores.dd is None:
        return
    wrong = 100 * (1 - scores.dd.value)
    near = abs(row.rate.value - wrong) <= _RESTATES_POINTS
    yield Finding(
        table=table.name,
        item=f"{item}, rate",
        check="says more than 1 - DD",
        verdict="weak" if near else "holds",
        stated=f"{row.rate}%",
        recomputed=f"1 - DD = {wrong:.1f}%",
        note="the rate is that of wrong diagnoses, not a view of its own" if near else "",
    )


def _threshold_in_a_mode(table: Tail, real: ScoreRow, n: int) -> Iterator[Finding]:
    """Where the quantile lies in the mixture of Real; see ``statistics/bimodality.py``."""
    if real.dd is None or real.vdc is None or real.ccs is None:
        return
    wrong = 1 - real.dd.value
    low, high = wilson(round(wrong * n), n)
    lower = (real.vdc.value + real.ccs.value + 1) / 4
    boundary = low <= table.quantile <= high
    yield Finding(
        table=table.name,
        item=f"{table.dataset}: tau",
        check="tau within one mode of Real",
        verdict="weak" if boundary else "holds",
        stated=str(table.tau) if table.tau else "",
        recomputed=(
            f"modes near {lower:.3f} and {lower + 0.25:.3f}; {wrong:.1%} of Real have DD = 0 "
            f"[{low:.1%}, {high:.1%}], quantile {table.quantile:.0%}"
        ),
        note="another sample of real images may put tau in the other mode" if boundary else "",
    )


def check_reductions(table: Reductions) -> Iterator[Finding]:
    """The stated range and average against each way of averaging."""
    absolute = [(row, _difference(row.lowest_tail, row.method)) for row in table.rows]
    for label, stated, pick in (("least", table.least, min), ("most", table.most, max)):
        row, (value, low, high) = pick(absolute, key=lambda pair: pair[1][0])
        yield Finding(
            table=table.name,
            item=f"{label} absolute reduction",
            check="difference from the baseline of the lowest tail",
            verdict=judge(stated, value, low, high),
            stated=f"{stated} points",
            recomputed=f"{value:.1f} points ({row.dataset})",
        )
    averages = relative_averages(table)
    value, low, high = averages["mean of the relative reductions"]
    verdict = judge(table.average_relative, value, low, high)
    others = [
        name
        for name, (other, *_) in averages.items()
        if abs(other - table.average_relative.value) <= table.average_relative.half_unit + 1e-9
    ]
    note = f"the stated number is the {others[0]}" if verdict != "holds" and others else ""
    yield Finding(
        table=table.name,
        item="average relative reduction",
        check="mean over data sets of the relative reductions",
        verdict=verdict,
        stated=f"{table.average_relative}%",
        recomputed="; ".join(f"{name} {v[0]:.1f}%" for name, v in averages.items()),
        note=note,
    )


def relative_averages(table: Reductions) -> dict[str, tuple[float, float, float]]:
    """Average relative reduction in percent by each averaging: value, and its range by rounding."""
    averages = {}
    for reading, suffix in (("lowest_tail", ""), ("best_mean", ", baseline of best mean CAS")):
        ours = [row.method for row in table.rows]
        theirs: list[Stated] = [getattr(row, reading) for row in table.rows]
        sizes = [float(row.n) for row in table.rows]
        alike = [1.0] * len(sizes)
        for name, function, weights in (
            ("mean of the relative reductions", _mean_ratio, alike),
            ("reduction of the mean rate", _ratio_of_means, alike),
            ("reduction of the rate over all images", _ratio_of_means, sizes),
        ):
            averages[name + suffix] = (
                function([b.value for b in theirs], [m.value for m in ours], weights),
                function([b.low for b in theirs], [m.high for m in ours], weights),
                function([b.high for b in theirs], [m.low for m in ours], weights),
            )
    return averages


def _difference(left: Stated, right: Stated) -> tuple[float, float, float]:
    return left.value - right.value, left.low - right.high, left.high - right.low


def _mean_ratio(baselines: list[float], rates: list[float], weights: list[float]) -> float:
    parts = [w * (b - r) / b for b, r, w in zip(baselines, rates, weights, strict=True)]
    return 100 * sum(parts) / sum(weights)


def _ratio_of_means(baselines: list[float], rates: list[float], weights: list[float]) -> float:
    before = sum(b * w for b, w in zip(baselines, weights, strict=True))
    after = sum(r * w for r, w in zip(rates, weights, strict=True))
    return 100 * (before - after) / before
