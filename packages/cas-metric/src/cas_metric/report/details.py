"""The back of a report: text beyond the encoder's limit, failures, and where the run comes from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cas_metric.report.tables import MISSING, Cell, Column, Table, TableRow, between, count, number

#: Lines that the failures table shows; the rest is counted and left to per_image.csv.
MAX_FAILURES = 200


def self_test_table(found: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """What the encoder can tell apart on the real images; None where nothing could be asked."""
    rows = []
    for name, one in found.items():
        verdict = "blind" if one["blind"] else "above chance"
        bounds = (one["low"], one["high"])
        cells = (
            Cell(name.upper(), name),
            Cell(one["question"], one["question"]),
            Cell(number(one["score"]), one["score"], between(bounds)),
            Cell(number(one["chance"]), one["chance"]),
            Cell(count(one["images"]), one["images"]),
            Cell(verdict, verdict),
        )
        rows.append(TableRow(cells))
    columns = (
        Column("Score", numeric=False),
        Column("asked of every real image", numeric=False),
        Column("share", "Classes count the same; 95% interval over patients."),
        Column("chance"),
        Column("images"),
        Column("verdict", "Blind: not above chance, so the score says nothing here.", False),
    )
    caption = "Self-test: can the encoder judge these images at all?"
    return Table("self-test", caption, columns, tuple(rows)) if rows else None


def failure_table(failures: Sequence[Mapping[str, str]]) -> tuple[Table | None, int]:
    """Images that could not be read, with the reason.

    Args:
        failures: One mapping a file: ``set``, ``id``, ``image``, ``error``.

    Returns:
        The table (None when nothing failed), and how many lines it leaves out.
    """
    rows = []
    for one in failures[:MAX_FAILURES]:
        reason = one["error"].rpartition(f"{one['image']}: ")[2]  # the file has its own column
        words = (Cell(text, text) for text in (one["set"], one["id"], reason))
        rows.append(TableRow((Cell(one["image"], one["image"], code=True), *words)))
    titles = ("File", "Set", "Id", "Reason")
    columns = tuple(Column(title, numeric=False) for title in titles)
    table = Table("failures", "Images that could not be scored", columns, tuple(rows))
    return (table if rows else None), len(failures) - len(rows)


def missing_table(missing: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Scores that readable images lack, why, and what to add; None where all are there."""
    rows = []
    for key, one in missing.items():
        images = Cell(f"{count(one['images'])} of {count(one['of'])}", one["images"])
        words = (Cell(one[name], one[name]) for name in ("reason", "add"))
        rows.append(TableRow((Cell(key.upper(), key), images, *words)))
    columns = (
        Column("Score", numeric=False),
        Column("images without it"),
        Column("Reason", numeric=False),
        Column("What to add", numeric=False),
    )
    caption = "Scores that could not be computed, and what to add"
    return Table("missing", caption, columns, tuple(rows)) if rows else None


def provenance(summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that the run's summary says about how it was made, as titled lists.

    ``timing`` is left out: it differs between two runs over the same inputs, and a report must not.
    """
    protocol = {
        "version": summary.get("protocol"),
        "departures": summary.get("departures") or "none",
        "domain": summary.get("domain"),
    }
    head = {name: summary.get(name) or {} for name in ("encoder", "precision", "probe")}
    return provenance_groups(summary.get("provenance") or {}, {"protocol": protocol, **head})


def provenance_groups(
    made: Mapping[str, Any], head: Mapping[str, Any] | None = None
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Provenance as titled lists: ``head`` first, then plain values as "run", then the rest."""
    made = dict(made)
    if isinstance(made.get("command"), list):
        made["command"] = shlex.join(made["command"])
    plain = {key: value for key, value in made.items() if not isinstance(value, (dict, list))}
    nested = {key: value for key, value in made.items() if key not in plain}
    groups = {**(head or {}), "run": plain, **nested}
    listed = [(key.replace("_", " "), list(_leaves(value))) for key, value in groups.items()]
    return [(title, items) for title, items in listed if items]


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """The leaves of nested mappings and lists with the path to each."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key).replace("_", " ")))
    elif isinstance(value, (list, tuple)) and any(isinstance(v, (dict, list)) for v in value):
        for index, item in enumerate(value, start=1):
            yield from _leaves(item, (*path, str(index)))
    else:
        text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        yield " · ".join(path), MISSING if text in (None, "") else str(text)
