"""The report of a checklist audit: pass rates in the layout of Table 3b, and the worst images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.files import write_bytes
from cas_metric.report import details
from cas_metric.report.charts import Chart, interval_chart
from cas_metric.report.gallery import Thumbnail, thumbnail
from cas_metric.report.palette import INKS
from cas_metric.report.rendering import render
from cas_metric.report.tables import (
    MISSING,
    Cell,
    Column,
    Table,
    TableRow,
    count,
    is_number,
    number,
    share,
)
from cas_metric.statistics.pass_rates import image_table
from cas_metric.statistics.tables import p_value

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME: Final = "report.html"
TITLE: Final = "Checklist audit"
GALLERY: Final = 24

#: ``(method, seed, id)`` of an image, as text.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class AuditedImage:
    """One image of the gallery with what was said of each item."""

    id: str
    method: str
    ink: str
    label: str
    pass_rate: str
    image: Thumbnail
    items: tuple[tuple[str, str, str, str], ...]


def write_audit_report(
    summary: Mapping[str, Any],
    rows: pd.DataFrame,
    paths: Mapping[Key, Path],
    out: str | Path,
    *,
    gallery: int = GALLERY,
) -> Path:
    """Write ``report.html`` into the folder ``out``: self-contained, the same bytes every time.

    Args:
        summary: Of the audit.
        rows: Verdicts on the checklists of the images' classes, one row an item.
        paths: Where each image lies.
        out: Folder; made where it is missing.
        gallery: How many of the images with the lowest pass rates to show.

    Returns:
        Path of the report.

    Raises:
        CasError: The folder cannot be written to.
    """
    inks = {one["method"]: f"m{i % len(INKS)}" for i, one in enumerate(summary["methods"])}
    failures, failures_left = details.failure_table(summary["failures"])
    context: dict[str, Any] = {
        "title": TITLE,
        "embedded_world": summary["embedded_world"],
        "domain": summary["title"],
        "evaluator": summary["evaluator"]["spec"],
        "headline": _headline(summary),
        "notes": summary["notes"],
        "chart": _chart(summary, inks),
        "table_3b": _table_3b(summary),
        "methods": _methods(summary, inks),
        "pairs": _pairs(summary["pairs"]),
        "classes": _classes(summary),
        "items": _items(summary),
        "control": _control(summary["control"], inks),
        "agreement": _agreement(summary["agreement"]),
        "cards": _cards(rows, paths, inks, gallery),
        "failures": failures,
        "failures_left": failures_left,
        "provenance": details.provenance_groups(
            summary["provenance"],
            {"evaluator": summary["evaluator"], "settings": summary["settings"]},
        ),
    }
    shown = {
        "rates": "Pass rates", "classes": "Classes", "items": "Items", "control": "Control",
        "agreement": "CCS", "cards": "Lowest images", "failures": "No verdict",
    }  # fmt: skip
    sections = [(name, text) for name, text in shown.items() if name == "rates" or context[name]]
    context["sections"] = [*sections, ("provenance", "Provenance")]
    target = Path(out) / FILE_NAME
    write_bytes(target, render("audit.html.j2", context).encode("utf-8"))
    return target


def table_3b(summary: Mapping[str, Any]) -> tuple[list[str], list[float], float]:
    """Methods, their pass rates, and the best of them (NaN without any), as in Table 3b."""
    methods = [one["method"] for one in summary["methods"]]
    values = [one["pass_rate"]["estimate"] for one in summary["methods"]]
    known = [value for value in values if is_number(value)]
    return methods, values, max(known) if known else float("nan")


def _headline(summary: Mapping[str, Any]) -> str:
    judged = [one for one in summary["methods"] if is_number(one["pass_rate"]["estimate"])]
    if not judged:
        return "No image got a verdict that could be counted; the reasons are below."
    best = max(judged, key=lambda one: one["pass_rate"]["estimate"])
    rate = best["pass_rate"]
    total = sum(one["images"] - one["unanswered"] for one in summary["methods"])
    among = f" has the highest pass rate of {len(judged)} methods" if len(judged) > 1 else " passes"
    return (
        f"{best['method']}{among}: on average {share(rate['estimate'])} of the assessable items of "
        f"an image are present (95% interval {share(rate['low'])} to {share(rate['high'])}). "
        f"{count(total)} images were judged."
    )


def _chart(summary: Mapping[str, Any], inks: Mapping[str, str]) -> Chart | None:
    rows = [
        (one["method"], inks[one["method"]], *(one["pass_rate"][k] for k in _ENDS))
        for one in summary["methods"]
        if is_number(one["pass_rate"]["estimate"])
    ]
    if not rows:
        return None
    return dataclasses.replace(interval_chart(rows, "Pass rate"), x_label="mean pass rate")


_ENDS: Final = ("estimate", "low", "high")


def _table_3b(summary: Mapping[str, Any]) -> Table:
    methods, values, best = table_3b(summary)
    cells = [Cell(number(v), v, best=v == best) for v in values]
    row = TableRow((Cell(summary["domain"], summary["domain"]), *cells))
    columns = (Column("Dataset", numeric=False), *(Column(name) for name in methods))
    return Table("table-3b", "Checklist pass rate, as in Table 3b of the paper", columns, (row,))


def _rate(entry: Mapping[str, float], *, best: bool = False, heat: bool = False) -> Cell:
    value = entry["estimate"]
    known = is_number(value)
    depth = round(100 * value) if heat and known else None
    bounds = f"{number(entry['low'])} to {number(entry['high'])}" if known else ""
    return Cell(number(value), value if known else None, bounds, best=best, heat=depth)


def _methods(summary: Mapping[str, Any], inks: Mapping[str, str]) -> Table:
    best = table_3b(summary)[2]
    rows = []
    for one in summary["methods"]:
        counted = (one[key] for key in ("present", "absent", "not_assessable"))
        cells = (
            Cell(one["method"], one["method"]),
            *(Cell(count(one[key]), one[key]) for key in ("images", "unanswered")),
            _rate(one["pass_rate"], best=one["pass_rate"]["estimate"] == best),
            _rate(one["item_rate"]),
            _rate(one["complete"]),
            Cell(number(one["class_balanced"]), one["class_balanced"]),
            *(Cell(count(n), n) for n in counted),
        )
        rows.append(TableRow(cells, inks[one["method"]]))
    columns = (
        Column("Method", numeric=False),
        Column("images"),
        Column("no verdict", "Images without a usable answer; they are in no rate."),
        Column("pass rate", "Mean over images of the share of assessable items that are present."),
        Column("over items", "The same share with all items of all images thrown together."),
        Column("none absent", "Images of which no assessable item is absent."),
        Column("balanced", "Mean of the means of the classes."),
        Column("present"),
        Column("absent"),
        Column("n/a", "Not assessable; in no denominator."),
    )
    return Table("methods", "Pass rates with 95% intervals, and verdicts", columns, tuple(rows))


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> Table | None:
    rows = []
    for pair in pairs:
        name = f"{pair['left']} − {pair['right']}"
        cells = (
            Cell(name, name),
            Cell(count(pair["n_cases"]), pair["n_cases"]),
            _rate(pair["difference"]),
            *(Cell(p_value(pair[key]), pair[key]) for key in ("p", "p_adjusted")),
        )
        rows.append(TableRow(cells))
    columns = (
        Column("Pair", numeric=False),
        Column("cases"),
        Column("difference"),
        Column("p", "Sign flips of cases."),
        Column("p (Holm)", "Corrected for the number of pairs."),
    )
    caption = "Paired differences of the pass rates of common cases"
    return Table("pairs", caption, columns, tuple(rows)) if rows else None


def _classes(summary: Mapping[str, Any]) -> Table:
    methods = summary["methods"]
    labels = dict.fromkeys(label for one in methods for label in one["per_class"])
    rows = []
    for label in labels:
        entries = [one["per_class"].get(label) for one in methods]
        cells = [_rate(e["pass_rate"], heat=True) if e else Cell(MISSING) for e in entries]
        images = sum(e["rated"] for e in entries if e)
        rows.append(TableRow((Cell(label, label), Cell(count(images), images), *cells)))
    named = (Column(one["method"]) for one in methods)
    rated = Column("images", "With an item that could be assessed, over all methods.")
    columns = (Column("Class", numeric=False), rated, *named)
    return Table("classes", "Mean pass rate of the images of each class", columns, tuple(rows))


def _items(summary: Mapping[str, Any]) -> Table:
    methods = summary["methods"]
    by_key = [{(i["label"], i["attribute"]): i for i in one["items"]} for one in methods]
    rows = []
    for label, attribute in dict.fromkeys(key for items in by_key for key in items):
        found = [items.get((label, attribute)) for items in by_key]
        unsure = sum(item["not_assessable"] for item in found if item)
        cells = [_rate(i["rate"], heat=True) if i else Cell(MISSING) for i in found]
        words = (Cell(label, label), Cell(attribute, attribute))
        rows.append(TableRow((*words, *cells, Cell(count(unsure), unsure))))
    columns = (
        Column("Class", numeric=False),
        Column("Item", numeric=False),
        *(Column(one["method"]) for one in methods),
        Column("not assessable", "Verdicts that are in no rate, over all methods."),
    )
    caption = "Share of assessable images that show each item, with 95% intervals"
    return Table("items", caption, columns, tuple(rows))


def _control(control: Mapping[str, Any] | None, inks: Mapping[str, str]) -> Table | None:
    if control is None:
        return None
    rows = tuple(
        TableRow(
            (Cell(name, name), Cell(count(one["n"]), one["n"]), _rate(one["pass_rate"]),
             _rate(one["difference"])),
            inks[name],
        )
        for name, one in control.items()
    )  # fmt: skip
    columns = (
        Column("Method", numeric=False),
        Column("images"),
        Column("other checklist", "Pass rate on the checklist of another class."),
        Column("own minus other", "Paired difference of the two pass rates of an image."),
    )
    return Table("control", "The same images on the checklists of other classes", columns, rows)


def _agreement(agreement: Mapping[str, Any] | None) -> Table | None:
    if agreement is None:
        return None
    names = ("spearman", "spearman_within_class", "point_biserial")
    rows = tuple(
        TableRow(
            (Cell(method, method), Cell(count(one["n"]), one["n"]), *(_rate(one[n]) for n in names))
        )
        for method, one in agreement.items()
    )
    columns = (
        Column("Images of", numeric=False),
        Column("n"),
        Column("Spearman", "Pass rate of an image with its CCS."),
        Column("within classes", "The same with ranks taken within each class."),
        Column("point-biserial", "Whether no assessable item is absent, with CCS."),
    )
    return Table("agreement", "Agreement with CCS, 95% intervals", columns, rows)


def _cards(
    rows: pd.DataFrame, paths: Mapping[Key, Path], inks: Mapping[str, str], limit: int
) -> list[AuditedImage]:
    """The images with the lowest pass rates; equal ones by method, seed and id."""
    images = image_table(rows)
    lowest = images[images["pass_rate"].notna()].sort_values(
        ["pass_rate", "method", "seed", "id"], kind="stable"
    )
    keyed = rows.assign(_key=_keys(rows)).groupby("_key", sort=False)
    cards: list[AuditedImage] = []
    for key, image in zip(_keys(lowest), lowest.to_dict("records"), strict=True):
        if len(cards) == limit:
            break
        items = keyed.get_group(key).to_dict("records")
        cards.append(
            AuditedImage(
                id=str(image["id"]),
                method=str(image["method"]),
                ink=inks[image["method"]],
                label=str(image["label"]),
                pass_rate=number(image["pass_rate"], 2),
                image=thumbnail(paths.get(key)),
                items=tuple(
                    (i["verdict"], i["attribute"], i["description"], i["evidence"])
                    for i in items
                    if i["verdict"]
                ),
            )
        )
    return cards


def _keys(table: pd.DataFrame) -> list[Key]:
    columns = (table[name] for name in ("method", "seed", "id"))
    return [(str(m), str(s), str(i)) for m, s, i in zip(*columns, strict=True)]
