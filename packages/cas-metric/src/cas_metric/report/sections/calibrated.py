"""``calibrated``: of ``cas_v2``, side by side with cas-v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cas_metric.report import content
from cas_metric.report.sections import Section
from cas_metric.report.tables import Cell, Column, Table, TableRow, between, count, number, share

if TYPE_CHECKING:
    from cas_metric.report.content import Entry
    from cas_metric.runs.run import Run

#: Lines of the tail by level alpha, class (empty: all) and method.
_Tail = Mapping[tuple[float, str, str], Mapping[str, Any]]
#: A line of a table: its name, what it sorts by, and level and class that it shows.
_Line = tuple[str, str | float, tuple[float, str]]
_HELD_OUT = "Real images among ones that they were not ranked with."
_EVERY_LEVEL = "Low at every level; no interval where Real is too small for one"


def section(run: Run, methods: Sequence[Entry]) -> Section | None:
    """The tail by tau beside the tail by rank among real images; None without cas-v2."""
    block = run.summary.get("cas_v2") or {}
    alpha: float = block.get("alpha") or 0.0
    tail: dict[tuple[float, str, str], Mapping[str, Any]] = {
        (one["alpha"], one.get("label") or "", str(one["method"] or "generated")): one
        for one in block.get("tail") or ()
    }
    methods = [entry for entry in methods if (alpha, "", entry.name) in tail]
    if not methods:
        return None
    references = content.entries(run.rows, run.real, run.floor, run.summary)[1]
    labels = dict.fromkeys(label for _, label, _ in tail if label)
    levels = sorted({level for level, _, _ in tail})
    by_class: list[_Line] = [(label, label, (alpha, label)) for label in labels]
    by_level: list[_Line] = [(_level(level), level, (level, "")) for level in levels]
    tables = [
        _both(methods, references, tail, alpha),
        _grid("Class", f"Low at {_level(alpha)}, by class", by_class, methods, tail),
        _grid("Level", _EVERY_LEVEL, by_level, methods, tail),
    ]
    return Section("cas-v2", "cas-v1 and cas-v2 side by side", _text(block), tables)


def _text(block: Mapping[str, Any]) -> str:
    """What the two tails mean, and why one of them is so much longer."""
    alpha, made = block["alpha"], block.get("calibration") or {}
    sizes = [size for size in (made.get("ranked_among") or {}).values() if size]
    among = f" ({min(sizes)} or more of them)" if sizes else ""
    return (
        "cas-v1 takes τ from real images that are their own reference, so that new real images, "
        "too, lie below it more often than the 25% it is named after: see Floor. cas-v2 ranks each "
        f"image among other real images of its class{among}; of new real images about "
        f"{_level(alpha)} are low, whatever the encoder. A set with clearly more has images that "
        "real ones are not like. calibrated.csv says which images are low."
    )


def _both(
    methods: Sequence[Entry], references: Sequence[Entry], tail: _Tail, alpha: float
) -> Table:
    """Both scores of every method, of Real and of the floor."""
    columns = (
        Column("Method", numeric=False),
        Column("CAS", "Mean of the four scores (cas-v1)."),
        Column("below τ", "Share of images below the 25th percentile of Real (cas-v1)."),
        Column(
            f"low at {_level(alpha)}",
            f"Share of images lower than all but {_level(alpha)} of Real (cas-v2). {_HELD_OUT}",
        ),
        Column("images"),
    )
    found = {entry.name: tail[alpha, "", entry.name] for entry in methods}
    held_out = _held_out(found[methods[0].name])
    rows = (_row(entry, _share(found[entry.name])) for entry in methods)
    apart = (_row(one, held_out if one.ink == "real" else Cell(number(None))) for one in references)
    caption = "The two tails, 95% intervals below"
    return Table("calibrated", caption, columns, tuple(rows), tuple(apart))


def _row(entry: Entry, low: Cell) -> TableRow:
    mean, tail, n = entry.summary["mean"].get("cas"), entry.tail, entry.summary.get("n")
    cells = (
        Cell(entry.name, entry.name),
        Cell(number(mean), mean, between((entry.summary.get("interval") or {}).get("cas"))),
        Cell(share(tail.get("rate")), tail.get("rate"), between(tail.get("rate_interval"), share)),
        low,
        Cell(count(n), n),
    )
    return TableRow(cells, entry.ink)


def _grid(
    first: str,
    caption: str,
    lines: Sequence[_Line],
    methods: Sequence[Entry],
    tail: _Tail,
) -> Table:
    """Low shares of the methods, and of held-out real images, one line a class or level."""
    columns = (
        Column(first, numeric=False),
        *(Column(entry.name) for entry in methods),
        Column("Real, held out", _HELD_OUT),
    )
    rows = []
    for text, value, key in lines:
        found = [tail.get((*key, entry.name), {}) for entry in methods]
        real = next((one for one in found if one), {})
        rows.append(TableRow((Cell(text, value), *map(_share, found), _held_out(real))))
    return Table(f"low by {first.lower()}", caption, columns, tuple(rows))


def _level(alpha: float) -> str:
    return f"{100 * alpha:g}%"


def _share(one: Mapping[str, Any]) -> Cell:
    value = one.get("share_low")
    return Cell(share(value), value, between((one.get("low"), one.get("high")), share))


def _held_out(one: Mapping[str, Any]) -> Cell:
    value = one.get("real_share_low")
    return Cell(share(value), value, between((one.get("real_low"), one.get("real_high")), share))
