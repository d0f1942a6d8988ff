"""``calibrated``: of ``cas_v2``, side by side with cas-v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cas_metric.report.sections import Section
from cas_metric.report.tables import Cell, Column, Table, TableRow, between, count, number, share

if TYPE_CHECKING:
    from cas_metric.report.content import Entry
    from cas_metric.runs.run import Run


def section(run: Run, methods: Sequence[Entry]) -> Section | None:
    """The tail by tau beside the tail by rank among real images; None without cas-v2."""
    block = run.summary.get("cas_v2") or {}
    alpha = block.get("alpha")
    low = {
        str(one["method"] or "generated"): one
        for one in block.get("tail") or ()
        if not one.get("label") and one.get("alpha") == alpha
    }
    rows = [_row(entry, low[entry.name]) for entry in methods if entry.name in low]
    if not rows:
        return None
    columns = (
        Column("Method", numeric=False),
        Column("CAS", "Mean of the four scores (cas-v1)."),
        Column("below τ", "Share of images below the 25th percentile of Real (cas-v1)."),
        Column(f"low at {alpha:g}", "Share of images below all but that share of Real (cas-v2)."),
        Column("Real, held out", "The same share of real images that the ranks have not seen."),
        Column("images"),
    )
    text = (
        "cas-v1 is the paper's score and its threshold; cas-v2 places each image among other real "
        f"images of its class, so that of real images about {share(alpha)} are low whatever the "
        "encoder."
    )
    table = Table("calibrated", "The two tails, 95% intervals below", columns, tuple(rows))
    return Section("cas-v2", "cas-v1 and cas-v2 side by side", text, [table])


def _row(entry: Entry, low: Mapping[str, Any]) -> TableRow:
    mean, tail = entry.summary["mean"].get("cas"), entry.tail
    own, real = low.get("share_low"), low.get("real_share_low")
    bounds = (low.get("low"), low.get("high"))
    theirs = (low.get("real_low"), low.get("real_high"))
    cells = (
        Cell(entry.name, entry.name),
        Cell(number(mean), mean),
        Cell(share(tail.get("rate")), tail.get("rate"), between(tail.get("rate_interval"), share)),
        Cell(share(own), own, _between(bounds)),
        Cell(share(real), real, _between(theirs)),
        Cell(count(low.get("n")), low.get("n")),
    )
    return TableRow(cells, entry.ink)


def _between(bounds: tuple[Any, Any]) -> str:
    return between(bounds, share) if None not in bounds else ""
